"""Control: claims, arbiter, plan book, executor, trace. The arbiter is pure; only the executor writes."""
