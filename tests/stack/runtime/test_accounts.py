import pytest

from stack.runtime.accounts import (
    AccountsError,
    add_account,
    hash_of,
    read_accounts,
    remove_account,
)


def test_an_account_is_written_as_a_hash_that_its_password_gives() -> None:
    text = add_account("", "alice", "secret words")
    accounts = read_accounts(text)
    assert accounts.hashes == {"alice": hash_of("alice", "secret words", accounts.salt)}
    assert "secret" not in text


def test_a_hash_is_what_copyparty_computes() -> None:
    """As `copyparty --usernames --ah-alg scrypt --ah-salt pepper --ah-gen alice:x` prints it."""
    assert hash_of("alice", "x", "pepper") == "+QarMxZ7P4ERQcKaTZDawF9jM8in6ewm0"


def test_more_accounts_share_the_salt_and_nothing_else() -> None:
    text = add_account(add_account("", "alice", "same"), "bob", "same")
    accounts = read_accounts(text)
    assert len(set(accounts.hashes.values())) == 2
    changed = read_accounts(add_account(text, "alice", "other"))
    assert changed.salt == accounts.salt and changed.hashes["bob"] == accounts.hashes["bob"]
    assert changed.hashes["alice"] != accounts.hashes["alice"]


def test_an_account_can_go_again() -> None:
    text = add_account(add_account("", "alice", "a"), "bob", "b")
    assert set(read_accounts(remove_account(text, "alice")).hashes) == {"bob"}


@pytest.mark.parametrize("name", ["", "a b", "a,b", "*", "@all", "salt", "a:b", "x\n[global]", "é"])
def test_a_name_that_means_something_to_copyparty_is_refused(name: str) -> None:
    with pytest.raises(AccountsError, match="cannot be an account"):
        add_account("", name, "x")


@pytest.mark.parametrize("password", ["", "x" * 300])
def test_a_password_that_copyparty_could_not_take_is_refused(password: str) -> None:
    with pytest.raises(AccountsError, match="empty or too long"):
        add_account("", "alice", password)


@pytest.mark.parametrize("line", ["alice: plaintext", "alice", ": +" + "a" * 32, "salt:"])
def test_a_line_that_is_no_account_is_refused_without_showing_it(line: str) -> None:
    with pytest.raises(AccountsError, match="line 2") as found:
        read_accounts(f"salt: x\n{line}\n")
    assert "plaintext" not in str(found.value)


def test_accounts_without_a_salt_are_refused() -> None:
    with pytest.raises(AccountsError, match="no salt"):
        read_accounts("alice: +" + "a" * 32)
