"""The end-to-end matrix: the real binary against real servers, judged by boto3."""
