"""What copyparty is told: one volume, known people only, and nothing that it can do besides."""

from services.files_lite.settings import FilesLiteSettings
from stack.runtime.accounts import ALGORITHM, Accounts

PORT = 80
# A word alone is a switch. Everything copyparty might run or announce stays off: no thumbnails,
# ffmpeg, zeroconf, FTP, TFTP, SMB or shares; what is not named here is off by itself.
# `s` hides unfinished uploads. Copies (no-cp, no-clone) would grow under their own names. A pool of
# open files (no-fpool) loses what it has not written yet when it is ended, without noticing.
SAFE = """\
i: 0.0.0.0
http-only
no-crt
usernames
q
no-ansi
s
nih
no-html
no-mime
no-logues
no-readme
no-zls
no-reload
no-rescan
no-stack
no-dot-mv
no-dot-ren
no-lifetime
dav-auth
vague-403
rproxy: -1
xff-src: lan
logout: 168
log-badpwd: 0
chmod-d: 2775
chmod-f: 664
apnd-who: no
no-cp
no-clone
no-fpool
ban-pw: 9,60,15
ban-403: no
ban-404: no
ban-422: no
ban-url: no
sus-urls: no
"""


def config_text(settings: FilesLiteSettings, accounts: Accounts) -> str:
    """copyparty's configuration file. It holds the salt, which `ps` must not show."""
    options = [
        f"p: {PORT}",
        *SAFE.splitlines(),
        f"hist: {settings.state_dir}/hist",
        f"ses-db: {settings.state_dir}/sessions.db",
        f"ah-alg: {ALGORITHM}",
        f"ah-salt: {accounts.salt}",
    ]
    people = [f"{name}: {value}" for name, value in accounts.hashes.items()]
    return "\n".join(
        [
            *("[global]", *_indented(options), ""),
            *("[accounts]", *_indented(people), ""),
            *("[/nas]", f"  {settings.nas_root}", "  accs:"),
            f"    rwmd: {', '.join(accounts.hashes)}",
            "",
        ]
    )


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
