"""PPO's update in numpy, one loop per sum, for a linear actor and critic.

Schulman et al. 2017, https://arxiv.org/abs/1707.06347; generalised advantages: Schulman et al. 2015, https://arxiv.org/abs/1506.02438.
"""

import math

import jax
import numpy as np


def log_prob(x, mean, log_std):
    return (-0.5 * ((x - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def numpy_value(weight, observation):
    return np.concatenate([observation["state/x"], observation["privileged/y"]], -1) @ weight


def numpy_advantage(config, batch, weight):
    value, following = (numpy_value(weight, x) for x in (batch.observation, batch.next_observation))
    delta = config.reward_scale * batch.reward + config.gamma * batch.discount * following - value
    length, worlds = batch.reward.shape
    advantage = np.zeros((length, worlds))
    for b in range(worlds):
        for t in range(length):
            for k in range(t, length):
                advantage[t, b] += (config.gamma * config.gae_lambda) ** (k - t) * delta[k, b]
                if batch.discount[k, b] == 0 or batch.truncation[k, b] == 1:
                    break
    return advantage, advantage + value, value


def numpy_loss(config, params, batch, advantage, returns, old_value):
    """The loss, in the form of the paper's figure 1: the surrogate is flat beyond the clip on the side where it would pay."""
    mean, log_std = batch.observation["state/x"] @ params["actor"]["weight"], params["actor"]["log_std"]
    ratio = np.exp(log_prob(batch.extras["x"], mean, log_std) - batch.extras["log_prob"])
    bound = np.where(advantage > 0, 1 + config.clip, 1 - config.clip)
    policy = -np.minimum(ratio * advantage, bound * advantage).mean()
    entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
    value = numpy_value(params["critic"]["weight"], batch.observation)
    error = (value - returns) ** 2
    if config.value_clip is not None:
        held = np.minimum(np.maximum(value, old_value - config.value_clip), old_value + config.value_clip)
        error = np.where(error > (held - returns) ** 2, error, (held - returns) ** 2)
    old_mean, old_log_std = batch.extras["mean"], batch.extras["log_std"]
    kl = log_std - old_log_std + (np.exp(2 * old_log_std) + (old_mean - mean) ** 2) / (2 * np.exp(2 * log_std)) - 0.5
    metrics = {
        "loss/policy": policy, "loss/value": error.mean() / 2, "entropy": entropy, "kl": kl.sum(-1).mean(),
        "clip_fraction": (np.abs(ratio - 1) > config.clip).mean(), "std": np.exp(log_std).mean(),
    }  # fmt: skip
    return policy - config.entropy_weight * entropy + config.value_weight * error.mean() / 2, metrics


def numpy_gradient(function, params):
    """By central differences, in float64."""
    leaves, structure = jax.tree.flatten(params)
    slopes = [np.zeros_like(leaf) for leaf in leaves]
    for leaf, slope in zip(leaves, slopes, strict=True):
        for index in np.ndindex(leaf.shape):
            middle = leaf[index]
            leaf[index] = middle + 1e-6
            above = function(params)[0]
            leaf[index] = middle - 1e-6
            slope[index] = (above - function(params)[0]) / 2e-6
            leaf[index] = middle
    return jax.tree.unflatten(structure, slopes)


def numpy_update(config, params, batch):
    """Parameters, learning rate and mean metrics after `num_epochs` steps, each on the whole batch."""
    params = jax.tree.map(lambda leaf: np.array(leaf, np.float64), params)
    advantage, returns, value = numpy_advantage(config, batch, params["critic"]["weight"])
    if config.normalise_advantages:
        advantage = (advantage - advantage.mean()) / advantage.std()
    rate, first, second, told = config.learning_rate, 0.0, 0.0, []
    for step in range(1, config.num_epochs + 1):
        loss = lambda params: numpy_loss(config, params, batch, advantage, returns, value)  # noqa: E731
        metrics = loss(params)[1]
        leaves, structure = jax.tree.flatten(numpy_gradient(loss, params))
        norm = math.sqrt(sum((leaf**2).sum() for leaf in leaves))
        told.append(metrics | {"gradient_norm": norm})
        if config.target_kl is not None:
            rate *= 1 / 1.5 if metrics["kl"] > 2 * config.target_kl else 1.5 if metrics["kl"] < config.target_kl / 2 else 1
            rate = min(max(rate, config.learning_rate_bounds[0]), config.learning_rate_bounds[1])
        flat = np.concatenate([leaf.ravel() for leaf in leaves])
        if config.max_gradient_norm:
            flat *= min(1.0, config.max_gradient_norm / norm)
        first, second = 0.9 * first + 0.1 * flat, 0.999 * second + 0.001 * flat**2
        move = rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-5)
        cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]
        moves = [part.reshape(leaf.shape) for part, leaf in zip(np.split(move, cuts), leaves, strict=True)]
        params = jax.tree.map(np.subtract, params, jax.tree.unflatten(structure, moves))
    means = {name: float(np.mean([metrics[name] for metrics in told])) for name in told[0]}
    explained = 1 - (returns - value).var() / returns.var()
    return params, means | {"learning_rate": rate, "value/explained_variance": explained, "reward": batch.reward.mean()}
