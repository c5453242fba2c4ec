#!/bin/sh
# Installs lorasmith for one user, into one folder of its own, on Linux and macOS.
#
#   sh install.sh             the newest release          sh install.sh --from .    this folder
#   sh install.sh             again: brings it up to date
#   sh install.sh --uninstall removes it wholly           sh install.sh --help      all options
#
# In the folder: env-N is an environment that is whole as soon as `current` names it, and never
# before; uv and python are those that the machine lacked; cache keeps what has been loaded, so that a
# broken-off run goes on where it was. install.ps1 is the same for Windows, with the same tables.
set -eu

TORCH_URL=https://download.pytorch.org/whl
TORCH_NEEDS='torch>=2.8'
# As in constraints.txt, and the builds that have it; of others the newest is taken.
TESTED_TORCH=2.13.0
TESTED_BUILDS='cpu cu126 cu130 rocm7.2 pypi'
EXTRAS='audit cuda faces gather optimizers studio'
PYTHONS='3.12 3.13 3.11 3.14'
OWN_PYTHON=3.12
UV_NEEDS=0.5.0
ROCM=rocm7.2

# PyTorch's builds for NVIDIA, the first that fits is taken: its index, the CUDA that the driver must be
# able to do, and the cards it has code for, from and to (compute capability).
CUDA_BUILDS='
cu130 13.0 7.5 12.9
cu126 12.0 5.0 9.0
cu128 12.8 7.5 12.9
'

# Megabytes to load and on disk, PyTorch alone; docs/install.md says which are measured.
TORCH_SIZES='
cpu 200 770
cuda 3000 5600
rocm 5000 16000
pypi 140 550
'
REST_SIZES='210 550'
UV_SIZE='18 37'
PYTHON_SIZE='35 110'

say() { printf '%s\n' "$*"; }

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 2
}

usage() {
    cat <<'END'
sh install.sh [OPTIONS]

Installs lorasmith into one folder of its own, or brings what is there up to date. Says first what it
will do and how much it will load, and asks.

  --yes              do not ask
  --dir DIR          the folder (~/.local/share/lorasmith; macOS: ~/Library/Application Support/lorasmith)
  --bin DIR          where the command `lorasmith` goes (~/.local/bin)
  --version X        this release instead of the newest
  --from PATH        a wheel, or a folder with the source, instead of a release
  --extras A,B       audit, cuda, faces, gather, optimizers, studio; or none (by itself: those that are there; at first
                     studio, and cuda with an NVIDIA card)
  --torch BUILD      PyTorch's build: cpu, cu126, cu128, cu130, rocm7.2, xpu; or pypi (by itself: by the driver)
                     what was named stays at later runs, until auto is
  --torch-index URL  where PyTorch comes from, instead of https://download.pytorch.org/whl/BUILD
  --python PATH      this Python, 3.11 to 3.14; or own, to load one (by itself: one that is there)
  --wheels DIR       offline: everything from the wheels of this folder
  --uninstall        remove what was installed
  --help             this text

Proxies (HTTPS_PROXY), certificates (SSL_CERT_FILE) and other indexes (PIP_INDEX_URL, UV_DEFAULT_INDEX, …)
are taken from the environment. Exit status: 0 done, 2 something that you can mend, 130 stopped by you.
END
}

# --- what was asked for

read_options() {
    yes='' dir='' bin='' version='' from='' extras=auto torch='' torch_index='' python='' wheels='' uninstall=''
    while [ $# -gt 0 ]; do
        case $1 in
            --yes | -y) yes=1 && shift && continue ;;
            --uninstall) uninstall=1 && shift && continue ;;
            --help | -h) usage && exit 0 ;;
            --*=*)
                option=${1%%=*} value=${1#*=}
                shift
                ;;
            --dir | --bin | --version | --from | --extras | --torch | --torch-index | --python | --wheels)
                [ $# -ge 2 ] || fail "$1 needs a value" "sh install.sh --help lists the options"
                option=$1 value=$2
                shift 2
                ;;
            *) fail "there is no option $1" "sh install.sh --help lists them" ;;
        esac
        [ -n "$value" ] || fail "$option needs a value" "sh install.sh --help lists the options"
        case $option in
            --dir) dir=$value ;;
            --bin) bin=$value ;;
            --version) version=$value ;;
            --from) from=$value ;;
            --extras) extras=$value ;;
            --torch) torch=$value ;;
            --torch-index) torch_index=$value ;;
            --python) python=$value ;;
            --wheels) wheels=$value ;;
            *) fail "$option takes no value, or is no option" "sh install.sh --help lists them" ;;
        esac
    done
    # Each once, without what lies between two commas.
    extras=$(printf '%s\n' "$extras" | tr ',' '\n' | tr ' ' '\n' | awk 'NF && !seen[$0]++' | paste -sd , -)
    dir_named=${dir:+$(absolute "$dir")} bin_named=${bin:+$(absolute "$bin")}
    if [ -z "$dir" ] || [ -z "$bin" ]; then
        [ -n "${HOME:-}" ] || fail "HOME is not set" "name a folder with --dir, and one for the command with --bin"
    fi
    if [ -z "$dir" ]; then
        case $(uname -s) in
            Darwin) dir="$HOME/Library/Application Support/lorasmith" ;;
            *) dir="${XDG_DATA_HOME:-$HOME/.local/share}/lorasmith" ;;
        esac
    fi
    [ -n "$bin" ] || bin="$HOME/.local/bin"
    dir=$(absolute "$dir") bin=$(absolute "$bin")
    launcher="$bin/lorasmith"
    if [ -n "$from" ]; then
        [ -z "$version" ] || fail "--from and --version exclude each other" "leave one of them out"
        [ -e "$from" ] || fail "$from: there is no such file or folder (--from)"
        from=$(absolute "$from")
        if [ -d "$from" ]; then
            [ -f "$from/pyproject.toml" ] || fail "$from: has no pyproject.toml (--from)" \
                "name the folder that README.md and pyproject.toml of lorasmith are in, or a wheel"
        else
            case $from in
                *.whl | *.tar.gz) ;;
                *) fail "$from: is neither a wheel nor a folder (--from)" ;;
            esac
        fi
    fi
    if [ -n "$wheels" ]; then
        [ -d "$wheels" ] || fail "$wheels: there is no such folder (--wheels)"
        wheels=$(absolute "$wheels")
    fi
    check_extras
    again=$(say_again dir "$dir_named" bin "$bin_named" version "$version" from "$from" wheels "$wheels" \
        torch-index "$torch_index" python "$python")
}

# This command, for who wants other extras.
say_again() {
    script=install.sh
    if [ -f "$0" ]; then script=$(absolute "$0"); fi
    printf 'sh %s' "$(word "$script")"
    while [ $# -gt 0 ]; do
        if [ -n "$2" ]; then printf ' --%s %s' "$1" "$(word "$2")"; fi
        shift 2
    done
}

# As a shell reads it; without quotes, in which ~ would not be the home folder.
word() { printf '%s' "$1" | sed "s/[][ '\"\\\$\`*?&|;<>(){}!#]/\\\\&/g"; }

absolute() {
    if [ -d "$1" ]; then
        (cd "$1" && pwd)
    elif [ -d "$(dirname "$1")" ]; then
        printf '%s/%s\n' "$(cd "$(dirname "$1")" && pwd)" "$(basename "$1")"
    else
        case $1 in /*) say "$1" ;; *) say "$(pwd)/$1" ;; esac
    fi
}

check_extras() {
    case $extras in
        auto) return ;;
        none) extras='' ;;
    esac
    for extra in $(printf '%s' "$extras" | tr ',' ' '); do
        case " $EXTRAS " in
            *" $extra "*) ;;
            *) fail "there is no extra $extra (--extras)" "there are: $EXTRAS" ;;
        esac
    done
}

# --- what the machine is and has

check_system() {
    system=$(uname -s) machine=$(uname -m)
    case $system in
        Linux)
            case $machine in
                x86_64 | amd64 | aarch64 | arm64) ;;
                *) fail "PyTorch has no builds for Linux on $machine" "it has them for x86_64 and aarch64" ;;
            esac
            libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
            case $libc in
                'glibc '*) at_least "${libc#glibc }" 2.28 || fail "this system's glibc is ${libc#glibc }; PyTorch needs 2.28" \
                    "Debian 10, Ubuntu 20.04, RHEL 8 and later have it" ;;
                *) fail "this system has another C library than glibc, for which PyTorch has no builds" \
                    "run lorasmith in a container of Debian or Ubuntu: see the Dockerfile" ;;
            esac
            ;;
        Darwin)
            # A shell that Rosetta runs says x86_64 on Apple's chips, too.
            if [ "$(sysctl -n hw.optional.arm64 2>/dev/null || true)" = 1 ]; then machine=arm64; fi
            [ "$machine" = arm64 ] || fail "PyTorch has no builds for Macs with Intel processors since 2.3; lorasmith needs 2.8"
            at_least "$(sw_vers -productVersion)" 14 || fail "macOS is $(sw_vers -productVersion); lorasmith needs 14 or newer" \
                "PyTorch and ONNX Runtime have no builds for older ones"
            ;;
        *) fail "this script is for Linux and macOS, and this is $system" "on Windows: install.ps1" ;;
    esac
}

# at_least VERSION NEEDED: numbers between dots, compared one by one.
at_least() {
    awk -v have="$1" -v need="$2" 'BEGIN {
        n = split(need, b, "."); split(have, a, ".")
        for (i = 1; i <= n; i++) { if (a[i] + 0 > b[i] + 0) exit 0; if (a[i] + 0 < b[i] + 0) exit 1 }
        exit 0 }'
}

# The version of a Python, where it is one that everything has wheels for; else nothing.
python_version() {
    "$1" -I -c '
import platform, struct, sys, sysconfig
fits = (
    (3, 11) <= sys.version_info[:2] <= (3, 14)
    and sys.version_info.releaselevel == "final"
    and platform.python_implementation() == "CPython"
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
    and struct.calcsize("P") == 8
    and (sys.platform != "darwin" or platform.machine() == "arm64")
)
print(platform.python_version() if fits else "")' 2>/dev/null || true
}

find_python() {
    python_found='' python_is=''
    if [ "$python" = own ]; then return; fi
    if [ -n "$python" ]; then
        python_found=$(command -v "$python" || true)
        [ -n "$python_found" ] || fail "$python: there is no such program (--python)"
        python_is=$(python_version "$python_found")
        [ -n "$python_is" ] || fail "$python: is no 64-bit CPython 3.11 to 3.14 (--python)" \
            "leave --python out: one is found, or loaded"
        python_found=$(absolute "$python_found")
        return
    fi
    for name in $PYTHONS ''; do
        python_found=$(command -v "python${name:-3}" || true)
        [ -n "$python_found" ] || continue
        python_is=$(python_version "$python_found")
        if [ -n "$python_is" ]; then return; fi
    done
    python_found=''
}

find_uv() {
    uv="$dir/uv/uv" uv_from=there
    if [ -x "$uv" ] && uv_fits "$uv"; then return; fi
    uv=$(command -v uv || true)
    if [ -n "$uv" ] && uv_fits "$uv"; then return; fi
    uv="$dir/uv/uv"
    if [ -n "$wheels" ]; then
        uv_from=wheels uv_wheel=$(find_uv_wheel)
        [ -n "$uv_wheel" ] || fail "$wheels: holds no wheel of uv for this machine, and uv is not installed" \
            "put it there: pip download --no-deps uv"
    elif [ -n "$python_found" ] && "$python_found" -I -m pip --version >/dev/null 2>&1; then
        uv_from=pip
    else
        uv_from=installer
        command -v curl >/dev/null || command -v wget >/dev/null || fail "neither curl nor wget is there to load uv with" \
            "install one of them, or a Python 3.11 to 3.14 with pip"
    fi
}

uv_fits() {
    found=$("$1" --version 2>/dev/null | awk '{print $2}') || return 1
    [ -n "$found" ] && at_least "$found" "$UV_NEEDS"
}

find_uv_wheel() {
    case $system-$machine in
        Darwin-*) pattern='macosx_*_arm64' ;;
        Linux-aarch64 | Linux-arm64) pattern='manylinux*aarch64*' ;;
        *) pattern='manylinux*x86_64*' ;;
    esac
    # The folder's name may have what a shell takes for a pattern.
    find "$wheels" -maxdepth 1 -name "uv-*$pattern.whl" | sort | tail -n 1
}

# --- which PyTorch

choose_torch() {
    # A build that was named stays, until another one is, or auto.
    if [ -z "$torch" ]; then
        torch=$(cat "$dir/$(cat "$dir/current" 2>/dev/null || true)/named-build" 2>/dev/null || true)
    fi
    if [ "$torch" = auto ]; then torch=''; fi
    named_build=$torch
    if [ -n "$torch" ]; then
        is_build "$torch" || fail "there is no build $torch of PyTorch (--torch)" \
            "there are: auto, cpu, cu126, cu128, cu130, $ROCM, xpu, pypi; others with --torch-index URL"
        torch_why="as asked for"
        return
    fi
    if [ "$system" = Darwin ]; then
        torch=pypi torch_why="the one for Apple's chips"
        return
    fi
    smi=$(find_nvidia_smi)
    if [ -n "$smi" ]; then
        driver_cuda=$("$smi" 2>/dev/null | read_driver_cuda || true)
        cards=$("$smi" --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | grep -E '^ *[0-9]+\.[0-9]+ *$' | tr '\n' ' ' || true)
        if [ -n "$driver_cuda" ]; then
            torch=$(choose_cuda "$driver_cuda" "$cards")
            torch_why="NVIDIA's driver can do CUDA $driver_cuda${cards:+, the card is of compute capability ${cards% }}"
            if [ "$torch" = cpu ]; then
                torch_why="$torch_why: too old for every build with CUDA; renew the driver (525 or newer), then run this again"
            fi
            return
        fi
    fi
    if [ "$machine" != aarch64 ] && has_amd; then
        torch=$ROCM torch_why="an AMD card with its kernel driver is there"
        return
    fi
    torch=cpu torch_why="no GPU with a working driver was found"
}

find_nvidia_smi() {
    for path in nvidia-smi /usr/lib/wsl/lib/nvidia-smi; do
        command -v "$path" && return
    done
    true
}

# Newer drivers write "CUDA UMD Version".
read_driver_cuda() {
    sed -n 's/.*CUDA\( [A-Za-z]*\)\{0,1\} Version *: *\([0-9]\{1,\}\.[0-9]\{1,\}\).*/\2/p' | head -n 1
}

# choose_cuda DRIVER_CUDA "CAPABILITY …": of the builds that the driver runs, the first that has code
# for most of the cards; cpu where none has for any.
choose_cuda() {
    printf '%s' "$CUDA_BUILDS" | awk -v driver="$1" -v cards="$2" '
        function number(version,  part) { split(version, part, "."); return part[1] * 100 + part[2] }
        BEGIN { best = "cpu"; most = 0; n = split(cards, card, " ") }
        NF == 4 && number($2) <= number(driver) {
            served = n ? 0 : 1
            for (i = 1; i <= n; i++)
                if (number(card[i]) >= number($3) && number(card[i]) <= number($4)) served++
            if (served > most) { best = $1; most = served }
        }
        END { print best }'
}

# The compute interface of the amdgpu driver, with a node that has a GPU (CPUs are nodes, too).
has_amd() {
    [ -e /dev/kfd ] && grep -qsE '^simd_count [1-9]' /sys/class/kfd/kfd/topology/nodes/*/properties
}

# One of the tables; where the index is named, whatever is called as PyTorch calls its builds.
is_build() {
    case $1 in
        cpu | pypi | xpu | "$ROCM") return 0 ;;
        cu[0-9]* | rocm[0-9]*)
            [ -n "$torch_index" ] || printf '%s' "$CUDA_BUILDS" | awk -v name="$1" '$1 == name {found = 1} END {exit !found}'
            ;;
        *) return 1 ;;
    esac
}

# What of that build: the version that is there, the tested one, or the newest.
choose_torch_version() {
    kept_torch='' torch_spec=$TORCH_NEEDS
    current=$(cat "$dir/current" 2>/dev/null || true)
    if [ -n "$current" ] && [ -z "$asked_for_torch" ] && [ "$(cat "$dir/$current/build" 2>/dev/null || true)" = "$torch" ]; then
        kept_torch=$(head -n 1 "$dir/$current/torch" 2>/dev/null || true)
    fi
    if [ -n "$kept_torch" ]; then
        torch_spec="torch==$kept_torch" torch_version="$kept_torch, which is there, stays"
    elif [ -n "$wheels" ]; then
        torch_version="the newest in the folder of wheels"
    elif [ -n "$torch_index" ]; then
        torch_spec="torch==$TESTED_TORCH" torch_version="$TESTED_TORCH, the tested version, if the index has it; else the newest"
    else
        case " $TESTED_BUILDS " in
            *" $torch "*) torch_spec="torch==$TESTED_TORCH" torch_version="$TESTED_TORCH, the tested version" ;;
            *) torch_version="the newest there is of it, since $TESTED_TORCH, the tested version, may not be" ;;
        esac
    fi
}

# Those that are there, or the studio and what suits the build.
choose_extras() {
    if [ "$extras" != auto ]; then return; fi
    extras=studio
    if [ -f "$dir/current" ]; then
        extras=$(cat "$dir/$(cat "$dir/current")/extras" 2>/dev/null || true)
    else
        case $torch in cu[0-9]*) extras=cuda,studio ;; esac
    fi
}

# --- what it takes, and whether the user wants it

count_sizes() {
    case $torch in cu[0-9]*) kind=cuda ;; rocm*) kind=rocm ;; pypi) kind=pypi ;; *) kind=cpu ;; esac
    # PyPI has the build with CUDA for Linux.
    if [ "$torch" = pypi ] && [ "$system" = Linux ]; then kind=cuda; fi
    sizes="$(printf '%s' "$TORCH_SIZES" | awk -v kind=$kind '$1 == kind {print $2, $3}') $REST_SIZES"
    # What is there is in the cache.
    if [ -n "$kept_torch" ] && [ -d "${UV_CACHE_DIR:-$dir/cache}" ]; then sizes="0 ${sizes#* }"; fi
    if [ "$uv_from" != there ]; then sizes="$sizes $UV_SIZE"; fi
    if [ -z "$python_found" ]; then sizes="$sizes $PYTHON_SIZE"; fi
    load_mb=0 disk_mb=0
    # shellcheck disable=SC2086 # Pairs of numbers.
    set -- $sizes
    while [ $# -gt 0 ]; do
        load_mb=$((load_mb + $1)) disk_mb=$((disk_mb + $2))
        shift 2
    done
    place=$dir
    while [ ! -e "$place" ]; do place=$(dirname "$place"); done
    free_mb=$(df -Pk "$place" | awk 'NR == 2 {print int($4 / 1024)}')
}

amount() {
    if [ "$1" -ge 1000 ]; then awk -v mb="$1" 'BEGIN {printf "%.1f GB", mb / 1000}'; else printf '%s MB' "$1"; fi
}

check_places() {
    if [ -e "$dir" ] && [ ! -f "$dir/lorasmith-install" ] && [ -n "$(ls -A "$dir" 2>/dev/null)" ]; then
        fail "$dir: is not empty, and not a folder that this script made" "name another with --dir"
    fi
    if [ -e "$launcher" ] || [ -L "$launcher" ]; then
        is_our_launcher || fail "$launcher: is there already, and is not this installation's" \
            "remove it (pipx uninstall lorasmith, uv tool uninstall lorasmith), or name another folder with --bin"
    fi
    for folder in "$dir" "$bin"; do
        while [ ! -e "$folder" ]; do folder=$(dirname "$folder"); done
        if [ ! -d "$folder" ]; then fail "$folder: is not a folder"; fi
        if [ ! -w "$folder" ]; then fail "$folder: cannot be written to by $(id -un)" "name others with --dir and --bin"; fi
    done
    # What an earlier run has brought is replaced, and room for both is needed for a moment only where
    # something new is loaded.
    if [ ! -f "$dir/current" ] && [ "$free_mb" -lt "$disk_mb" ]; then
        fail "$place: has $(amount "$free_mb") free, and about $(amount "$disk_mb") are needed" \
            "make room, or name a folder on another disk with --dir"
    fi
}

is_our_launcher() {
    grep -qsF "# lorasmith in $dir" "$launcher"
}

say_plan() {
    if [ -n "$from" ]; then what=$from; elif [ -n "$version" ]; then what="lorasmith $version"; else what="lorasmith, the newest release"; fi
    if [ -f "$dir/current" ]; then say "lorasmith is brought up to date. Nothing outside of these places is changed:"; else
        say "lorasmith is installed for this user. Nothing outside of these places is changed:"; fi
    say ""
    say "  folder    $dir"
    say "  command   $launcher"
    say ""
    say "  what      $what${extras:+, with the extras $extras}"
    if [ -n "$python_found" ]; then say "  Python    $python_is, $python_found"; else say "  Python    $OWN_PYTHON, its own, loaded by uv"; fi
    say "  PyTorch   $torch ($torch_why): $torch_version"
    case $uv_from in
        there) say "  uv        $uv" ;;
        wheels) say "  uv        from $uv_wheel" ;;
        pip) say "  uv        loaded by pip" ;;
        installer) say "  uv        loaded by its installer, https://astral.sh/uv/install.sh" ;;
    esac
    if [ -n "$wheels" ]; then say "  to load   nothing: all from $wheels"; elif [ -f "$dir/current" ]; then
        say "  to load   what is new since the last time; at most about $(amount "$load_mb")"; else
        say "  to load   about $(amount "$load_mb")"; fi
    say "  on disk   about $(amount "$disk_mb"); $(amount "$free_mb") are free"
    say ""
}

ask() {
    if [ -n "$yes" ]; then return; fi
    if [ -t 0 ]; then
        printf '%s [y/N] ' "$1"
        read -r answer || answer=''
    elif (: </dev/tty) 2>/dev/null; then # The script itself may come through standard input.
        printf '%s [y/N] ' "$1" >/dev/tty
        read -r answer </dev/tty || answer=''
    else
        fail "there is no terminal to ask at" "say --yes to go on without being asked"
    fi
    case $answer in
        y | Y | yes | Yes | YES) ;;
        *)
            say "Nothing was done."
            exit 130
            ;;
    esac
}

# --- doing it

# Variables that would lead pip, uv or Python to other places than the folder.
isolate() {
    unset PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE VIRTUAL_ENV CONDA_PREFIX \
        PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_REQUIRE_VIRTUALENV PIP_PYTHON PIP_CONSTRAINT PIP_REQUIREMENT \
        UV_PYTHON UV_SYSTEM_PYTHON UV_BREAK_SYSTEM_PACKAGES UV_PROJECT UV_PROJECT_ENVIRONMENT UV_WORKING_DIR \
        UV_TORCH_BACKEND UV_MANAGED_PYTHON UV_NO_MANAGED_PYTHON UV_PYTHON_PREFERENCE UV_PYTHON_DOWNLOADS \
        UV_NO_CACHE UV_LINK_MODE UV_COMPILE_BYTECODE UV_REQUIRE_HASHES UV_VENV_CLEAR
    export UV_PYTHON_INSTALL_DIR="$dir/python" UV_PYTHON_INSTALL_BIN=0
    export UV_CACHE_DIR="${UV_CACHE_DIR:-$dir/cache}"
    # uv locks its passwords for indexes, and leaves the lock where there are none.
    if [ ! -d "${XDG_DATA_HOME:-${HOME:-}/.local/share}/uv/credentials" ]; then
        export UV_CREDENTIALS_DIR="${UV_CREDENTIALS_DIR:-$dir/credentials}"
    fi
    # Where the user has told pip of another index, uv takes it, too.
    if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ] && [ -n "${PIP_INDEX_URL:-}" ]; then
        export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
    fi
    if [ -z "${UV_INDEX:-}${UV_EXTRA_INDEX_URL:-}" ] && [ -n "${PIP_EXTRA_INDEX_URL:-}" ]; then
        export UV_INDEX="$PIP_EXTRA_INDEX_URL"
    fi
    if [ -z "${SSL_CERT_FILE:-}" ] && [ -n "${PIP_CERT:-}" ]; then export SSL_CERT_FILE="$PIP_CERT"; fi
    if [ -z "${HTTPS_PROXY:-}${https_proxy:-}${ALL_PROXY:-}" ] && [ -n "${PIP_PROXY:-}" ]; then export ALL_PROXY="$PIP_PROXY"; fi
}

lock() {
    lock="$dir/lock"
    if ! mkdir "$lock" 2>/dev/null; then
        holder=$(cat "$lock/pid" 2>/dev/null || true)
        if [ -n "$holder" ] && kill -0 "$holder" 2>/dev/null; then
            fail "$dir: another installation is under way there (process $holder)" "wait for it to end"
        fi
    fi
    say $$ >"$lock/pid"
    trap 'ended $?' EXIT
    trap 'stopped' INT TERM HUP
}

ended() {
    rm -rf "$lock"
    case $1 in
        0 | 2 | 130) ;;
        *) printf 'install.sh: ended with status %s, which is a mistake of this script; please report what is above\n' "$1" >&2 ;;
    esac
}

stopped() {
    say ""
    say "Stopped. What has been loaded is kept: the same command goes on from there." >&2
    exit 130
}

# A step that may fail for reasons outside: the network, a full disk, an index.
step() {
    title=$1
    shift
    say "- $title"
    "$@" || broken "$title"
}

broken() {
    say "" >&2
    fail "could not go on with: $1" "uv, or what it ran, says why above" \
        "what has been loaded is kept: the same command goes on from there" \
        "behind a proxy, set HTTPS_PROXY; without a network, see --wheels"
}

get_uv() {
    rm -rf "$dir/uv.part"
    mkdir -p "$dir/uv.part"
    case $uv_from in
        wheels) unzip_uv "$uv_wheel" "$dir/uv.part" || broken "unpacking $uv_wheel" ;;
        pip)
            say "- uv, by pip"
            if "$python_found" -I -m pip install --quiet --no-deps --only-binary :all: --target "$dir/uv.part/wheel" uv &&
                [ -x "$dir/uv.part/wheel/bin/uv" ]; then
                mv "$dir/uv.part/wheel/bin/uv" "$dir/uv.part/uv"
            else
                run_uv_installer
            fi
            ;;
        installer) run_uv_installer ;;
    esac
    uv_fits "$dir/uv.part/uv" || broken "loading uv"
    rm -rf "$dir/uv" "$dir/uv.part/wheel"
    mv "$dir/uv.part" "$dir/uv"
}

run_uv_installer() {
    say "- uv, by its installer"
    script="$dir/uv.part/install.sh"
    if command -v curl >/dev/null; then
        curl -LsSf https://astral.sh/uv/install.sh -o "$script" || broken "loading https://astral.sh/uv/install.sh"
    else
        wget -qO "$script" https://astral.sh/uv/install.sh || broken "loading https://astral.sh/uv/install.sh"
    fi
    UV_UNMANAGED_INSTALL="$dir/uv.part" sh "$script" || broken "the installer of uv"
    rm -f "$script"
}

# A wheel is a zip file; uv is in it as uv-VERSION.data/scripts/uv.
unzip_uv() {
    if [ -n "$python_found" ]; then
        "$python_found" -I -m zipfile -e "$1" "$2/wheel"
    elif command -v unzip >/dev/null; then
        unzip -q "$1" -d "$2/wheel"
    else
        tar -xf "$1" -C "$2" # macOS: its tar reads zip files.
    fi
    find "$2" -path '*.data/scripts/uv' -exec mv {} "$2/uv" \;
    chmod +x "$2/uv"
}

# uv pip, with where packages come from; never with settings of the folder that the user is in.
uv_pip_install() {
    if [ -n "$wheels" ]; then set -- --no-index --find-links "$wheels" "$@"; fi
    "$uv" pip install --python "$env/bin/python" "$@"
}

# From PyTorch's index alone: another one that the user has would go before it, with another build.
uv_pip_install_torch() {
    (
        unset UV_INDEX UV_EXTRA_INDEX_URL
        uv_pip_install --default-index "$1" "$2"
    )
}

install_into_env() {
    if [ -z "$python_found" ]; then
        step "Python $OWN_PYTHON" "$uv" python install "$OWN_PYTHON"
        python_found=$("$uv" python find --managed-python "$OWN_PYTHON") || broken "finding the Python that was loaded"
    fi
    step "an environment of its own" "$uv" venv --quiet --python "$python_found" --no-python-downloads "$env"
    # Without what it needs first: it says with which versions it was tested.
    if [ -n "$from" ]; then spec=$from; else spec="lorasmith${version:+==$version}"; fi
    set -- --no-deps "$spec"
    # uv looks at pyproject.toml alone to see whether a folder has changed.
    if [ -d "$from" ]; then set -- --refresh-package lorasmith "$@"; fi
    step "lorasmith" uv_pip_install "$@"
    tested=$(find "$env/lib" -path '*/site-packages/lorasmith/assets/constraints.txt' || true)

    if [ -n "$wheels" ] || { [ "$torch" = pypi ] && [ -z "$torch_index" ]; }; then
        step "PyTorch" uv_pip_install "$torch_spec"
    elif [ -n "$torch_index" ] && [ -z "$kept_torch" ]; then
        say "- PyTorch $TESTED_TORCH, build $torch"
        uv_pip_install_torch "$torch_index" "$torch_spec" ||
            step "the newest PyTorch of that index" uv_pip_install_torch "$torch_index" "$TORCH_NEEDS"
    else
        step "PyTorch, build $torch" uv_pip_install_torch "${torch_index:-$TORCH_URL/$torch}" "$torch_spec"
    fi

    set -- "lorasmith${extras:+[$extras]}"
    if [ -z "$wheels" ] && [ -n "$tested" ]; then
        # PyTorch is there already, in the build that fits.
        grep -v '^torch==' "$tested" >"$env/constraints.txt"
        set -- --constraints "$env/constraints.txt" "$@"
    fi
    # For packages that someone adds: uv makes environments without it.
    if [ -z "$wheels" ]; then set -- "$@" pip; fi
    step "what lorasmith needs${extras:+, and $extras}" uv_pip_install "$@"
    check_env
}

check_env() {
    "$env/bin/lorasmith" --version >"$env/version" || broken "starting lorasmith"
    "$env/bin/python" -I -c '
import torch
print(torch.__version__)
print("cuda" if torch.cuda.is_available() else "")' >"$env/torch" || broken "importing PyTorch"
    say "$torch" >"$env/build"
    say "$extras" >"$env/extras"
    say "$named_build" >"$env/named-build"
    say "$again" >"$env/again"
    case $torch in
        cu[0-9]* | rocm*)
            [ "$(sed -n 2p "$env/torch")" = cuda ] || say "Note: PyTorch $torch does not find the GPU. lorasmith doctor says why." >&2
            ;;
    esac
}

# The number of the environment to build, one above all that are there.
next_env() {
    number=1
    while [ -e "$dir/env-$number" ]; do number=$((number + 1)); done
    printf '%s/env-%s' "$dir" "$number"
}

# All but one: those that are not whole, and what was before, unless it runs.
remove_other_envs() {
    for other in "$dir"/env-*; do
        if [ "$other" = "$dir/$1" ]; then continue; fi
        # shellcheck disable=SC2009 # pgrep's patterns would read the path as one.
        if ps -axww -o args= 2>/dev/null | grep -F "$other/" | grep -qvF 'grep -F'; then
            say "$other is in use, and is removed the next time."
        else
            rm -rf "$other"
        fi
    done
}

write_launcher() {
    if [ ! -d "$bin" ]; then
        mkdir -p "$bin"
        say "$bin" >>"$dir/made-bin"
    fi
    quoted=$(printf '%s' "$dir" | sed "s/'/'\\\\''/g")
    cat >"$launcher.part" <<END
#!/bin/sh
# lorasmith in $dir
unset PYTHONPATH PYTHONHOME
dir='$quoted'
read -r env <"\$dir/current"
exec "\$dir/\$env/bin/lorasmith" "\$@"
END
    chmod +x "$launcher.part"
    mv "$launcher.part" "$launcher"
}

install() {
    check_system
    find_python
    find_uv
    asked_for_torch=$torch
    choose_torch
    choose_torch_version
    choose_extras
    count_sizes
    check_places
    say_plan
    ask "Go on?"

    mkdir -p "$dir"
    say "This folder was made by lorasmith's install.sh, whose --uninstall removes it." >"$dir/lorasmith-install"
    lock
    isolate
    cd "$dir"
    current=$(cat current 2>/dev/null || true)
    # What a broken-off run has left: not whole, and quickly made again from the cache.
    remove_other_envs "$current"
    if [ "$uv_from" != there ]; then get_uv; fi
    env=$(next_env)
    install_into_env
    write_launcher
    # From here on it is whole.
    say "${env##*/}" >current.part
    mv current.part current
    remove_other_envs "${env##*/}"
    if [ "$UV_CACHE_DIR" = "$dir/cache" ]; then "$uv" cache prune --quiet || true; fi
    say ""
    say "$(cat "$env/version") is installed, with PyTorch $(head -n 1 "$env/torch")."
    say_path
}

say_path() {
    case ":$PATH:" in
        *":$bin:"*) say "Try it: lorasmith demo" ;;
        *)
            profile=.profile
            case ${SHELL:-} in */zsh) profile=.zprofile ;; */bash) if [ "$system" = Darwin ]; then profile=.bash_profile; fi ;; esac
            say "The command is in $bin, which is not on your path. Put this line at the end of ~/$profile, and open a new terminal:"
            say "  export PATH=\"$bin:\$PATH\""
            say "Try it: \"$launcher\" demo"
            ;;
    esac
}

uninstall() {
    [ -d "$dir" ] || fail "$dir: there is no such folder" "name the one that lorasmith was installed into with --dir"
    [ -f "$dir/lorasmith-install" ] || fail "$dir: was not made by this script, and is left alone" \
        "name the folder that lorasmith was installed into with --dir"
    say "Removed are:"
    say "  $dir"
    if is_our_launcher; then say "  $launcher"; fi
    ask "Go on?"
    lock
    if is_our_launcher; then rm -f "$launcher"; fi
    # What the script has made, and nothing that came there otherwise. `current` first, so that
    # nothing half removed is taken for whole.
    rm -f "$dir/current" "$dir/current.part"
    if grep -qsxF "$bin" "$dir/made-bin"; then rmdir "$bin" 2>/dev/null || true; fi
    rm -rf "$dir"/env-* "$dir/uv" "$dir/uv.part" "$dir/python" "$dir/cache" "$dir/credentials" "$dir/made-bin" "$dir/lock"
    rm -f "$dir/lorasmith-install"
    if rmdir "$dir" 2>/dev/null; then say "lorasmith is removed."; else
        say "lorasmith is removed. $dir is kept, because something else is in it:"
        ls -A "$dir"
    fi
}

# All is read before anything is done: a script that was loaded by halves does nothing.
main() {
    read_options "$@"
    if [ -n "$uninstall" ]; then uninstall; else install; fi
}

main "$@"
