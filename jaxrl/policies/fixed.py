"""A policy that acts by parameters of its own, whatever a run has learnt: one from another run, which fills a memory."""

from jaxrl.types import Observation, Params, Policy, PyTree


def fixed(policy: Policy, params: Params) -> Policy:
    """`policy` with `params`, deployable ones; one action for each inference, and nothing but that."""

    def act(given: Params, observation: Observation, carry: PyTree, key: PyTree, context: PyTree = None) -> tuple:
        del given
        chunk, carry, _ = policy.act(params, observation, carry, key, context)
        return chunk, carry, {}

    return Policy(policy.spec._replace(extras={}), policy.init, act)
