"""Windows of server metrics: bytes, errors and anomalies."""
