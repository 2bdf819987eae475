"""Room 2: products with the Jacobian J = df/dtheta."""
