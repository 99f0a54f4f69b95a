"""The accounts file: who may open the files. Standard library only, the command line uses it, too.

    # comment
    salt: <text, made once>
    alice: +<hash>

A hash is what copyparty's `--usernames --ah-alg scrypt` computes from `name:password` and the salt,
which all accounts share because copyparty looks an account up by its hash.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

SALT = "salt"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
HASH = re.compile(r"\+[A-Za-z0-9_-]{32}")
HEADER = "# Who may open the files, one name and hash a line. Restart files-lite after a change.\n"
# copyparty's own defaults, written out: 2^14 blocks of 8, four lanes, twice; 16 MiB and 0.3 s.
ROUNDS, COST, BLOCK, LANES, MEMORY_MIB = 2, 13, 8, 4, 32
ALGORITHM = f"scrypt,{COST},{ROUNDS},{BLOCK},{LANES},{MEMORY_MIB}"
LONGEST = 255  # of `name:password`, for copyparty


class AccountsError(Exception):
    """The accounts file, or what is to be written into it, cannot be used."""

    hint = "Each line of files-lite-accounts is `name: +hash`; the first is `salt: text`."


@dataclass(frozen=True, slots=True)
class Accounts:
    """The file's content."""

    salt: str
    hashes: Mapping[str, str]  # by name


def read_accounts(text: str) -> Accounts:
    """Raises AccountsError when a line is none; never shows what stands there."""
    salt, hashes = "", {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == SALT and value:
            salt = value
        elif NAME.fullmatch(name) and HASH.fullmatch(value):
            hashes[name] = value
        else:
            raise AccountsError(
                f"line {number} of the accounts is neither a salt nor name and hash"
            )
    if hashes and not salt:
        raise AccountsError("the accounts have no salt, expected a line `salt: text`")
    return Accounts(salt, hashes)


def add_account(text: str, name: str, password: str) -> str:
    """The file's text with one more account, or with a new password for it."""
    if not NAME.fullmatch(name) or name == SALT:
        raise AccountsError(f"{name!r} cannot be an account, expected letters, digits and . _ @ -")
    if not password or len(f"{name}:{password}") > LONGEST:
        raise AccountsError(
            f"the password of {name} is empty or too long, expected 1 to 190 letters"
        )
    accounts = read_accounts(text)
    salt = accounts.salt or secrets.token_urlsafe(18)
    return _write(Accounts(salt, {**accounts.hashes, name: hash_of(name, password, salt)}))


def remove_account(text: str, name: str) -> str:
    """The file's text without an account; as it was when there is none of that name."""
    accounts = read_accounts(text)
    rest = {other: value for other, value in accounts.hashes.items() if other != name}
    return _write(Accounts(accounts.salt, rest))


def hash_of(name: str, password: str, salt: str) -> str:
    value = f"{name}:{password}".encode()
    for _ in range(ROUNDS):
        value = hashlib.scrypt(
            value,
            salt=salt.encode(),
            n=2 << COST,
            r=BLOCK,
            p=LANES,
            maxmem=MEMORY_MIB << 20,
            dklen=24,
        )
    return "+" + base64.urlsafe_b64encode(value).decode()


def _write(accounts: Accounts) -> str:
    lines = [f"{SALT}: {accounts.salt}"] if accounts.salt else []
    lines += [f"{name}: {value}" for name, value in sorted(accounts.hashes.items())]
    return HEADER + "".join(f"{line}\n" for line in lines)
