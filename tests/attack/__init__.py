"""The standing attack: components, values, clients, upstreams and machines that mean harm, at random and repeatable.

The test run does a fixed number of rounds of each with a fixed seed. For as long as one likes, with a new seed:

    make attack                                        # ten minutes of all of them
    python -m tests.attack clients --seconds 3600      # one of them for an hour
    python -m tests.attack clients --seed 7 --round 12 # a round that failed, again
"""
