"""SciPy's generalised Gaussian with the parameters of ours."""

from scipy import stats

SHAPES = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0]


def gennorm(p: float, mu: float, sigma: float):
    return stats.gennorm(beta=p, loc=mu, scale=sigma * p ** (1 / p))
