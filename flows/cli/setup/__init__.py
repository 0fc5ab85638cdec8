"""Commands about configurations, models and this machine."""
