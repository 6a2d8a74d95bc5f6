"""A plan executed before and after the migration, with stand-ins for all around it.

Nothing of the checkout is run: ``codemods.interpret`` evaluates its code, ``torch`` and
the configuration are names, a model is whatever the plan asks of it, and meshes are
those that the checkout's own ParallelDims builds. What is recorded are the groups, in
order, with their mesh and policy, and everything else that is called, said or raised.
"""
