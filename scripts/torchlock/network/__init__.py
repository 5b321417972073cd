"""The network: HTTP that distrusts what it is told."""
