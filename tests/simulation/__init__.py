"""Models of what cannot be run here: how fleets and autoscalers behave."""
