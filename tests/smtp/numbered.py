#!/usr/bin/env python3
"""Sends numbered messages over several sessions at once, and logs each number when its 250 has come.

numbered.py HOST:PORT SESSIONS MESSAGES LOG: each session sends MESSAGES, or goes on until the server has gone. Whatever is
in the log was promised to be held; what is not in it may be held or not.
"""

import smtplib
import sys
import threading


def session(host, port, first, messages, log):
    try:
        with smtplib.SMTP(host, port, local_hostname="client.example", timeout=30) as client:
            for number in range(first, first + messages):
                text = f"Message-Id: <number.{number}@client.example>\r\n\r\n" + "text of a message\r\n" * 200
                client.sendmail("a@client.example", ["b@example.net"], text)
                # One write: lines of several sessions do not mix.
                log.write(f"{number}\n".encode())
    except (OSError, smtplib.SMTPException):
        pass


def main():
    address, sessions, messages, path = sys.argv[1:]
    host, port = address.rsplit(":", 1)
    messages = int(messages)
    with open(path, "ab", buffering=0) as log:
        threads = [
            threading.Thread(target=session, args=(host, int(port), n * messages, messages, log))
            for n in range(int(sessions))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


main()
