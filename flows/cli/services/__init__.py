"""Commands about services, deployments and projects."""
