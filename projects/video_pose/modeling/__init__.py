"""The base of recurrent pose models, their parts, fast forms, and heads of R-CNNs."""
