"""Samples of data sets as they lie, without a cache: a few blocks of episodes in memory, in an order that is fixed beforehand."""
