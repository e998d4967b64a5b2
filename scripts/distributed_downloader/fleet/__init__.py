"""Image servers on loopback, for the demo, the tests and the benchmarks.

They behave as real ones do, badly included, and keep an access log: the judge of our politeness.
"""
