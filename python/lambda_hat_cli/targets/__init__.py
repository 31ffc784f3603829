"""How a target is made and loaded: models, data, training."""
