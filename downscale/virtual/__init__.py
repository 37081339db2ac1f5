"""A small virtual climate with a known truth: global models, a regional model driven by them, written as real files.

Read in this order: world (every number), geometry, clock, waves, terrain, atmosphere, surface, simulation, truth, files, stage.
"""
