"""A network whose components theory knows beforehand: random features, their limit kernel, what they must measure."""
