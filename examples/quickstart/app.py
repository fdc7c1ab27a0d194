"""The README's example: dispatch a job, run it, get its result."""

from __future__ import annotations

from queuekit import Queue

queue = Queue("sqlite:///jobs.db")


@queue.job(retries=5, timeout=30)
def send_email(to: str, subject: str) -> str:
    return f"sent {subject!r} to {to}"


if __name__ == "__main__":
    handle = send_email.dispatch("ada@example.org", subject="hello")
    with queue.worker(concurrency=4):
        print(handle.result(timeout=10))
    queue.close()
