"""What a run will cost, found by running its steps without memory: shapes go through the real code, nothing else."""

from charforge.estimate.cost import Cost, Workload, estimate

__all__ = ["Cost", "Workload", "estimate"]
