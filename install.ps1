<#
.SYNOPSIS
Installs lorasmith for one user, into one folder of its own, on Windows 10 and 11.

.DESCRIPTION
    powershell -ExecutionPolicy Bypass -File install.ps1              the newest release
    powershell -ExecutionPolicy Bypass -File install.ps1 -From .      this folder
    powershell -ExecutionPolicy Bypass -File install.ps1 -Uninstall   removes it wholly

Run again it brings what is there up to date. It says first what it will do and how much it will load,
and asks. Proxies (HTTPS_PROXY), certificates (SSL_CERT_FILE) and other indexes (PIP_INDEX_URL,
UV_DEFAULT_INDEX, ...) are taken from the environment. Exit status: 0 done, 2 something that you can
mend, 130 when you said no.

.PARAMETER Yes
Do not ask.
.PARAMETER Dir
The folder (%LOCALAPPDATA%\lorasmith). The command `lorasmith` is in its folder bin, which is put on your path.
.PARAMETER Version
This release instead of the newest.
.PARAMETER From
A wheel, or a folder with the source, instead of a release.
.PARAMETER Extras
audit, cuda, faces, gather, optimizers, studio; or none (by itself: those that are there; at first studio,
and cuda with an NVIDIA card).
.PARAMETER Torch
PyTorch's build: cpu, cu126, cu128, cu130, xpu; or pypi (by itself: by the driver).
What was named stays at later runs, until auto is.
.PARAMETER TorchIndex
Where PyTorch comes from, instead of https://download.pytorch.org/whl/BUILD.
.PARAMETER Python
This Python, 3.11 to 3.14; or own, to load one (by itself: one from python.org that is there).
.PARAMETER Wheels
Offline: everything from the wheels of this folder.
.PARAMETER Uninstall
Remove what was installed.
.PARAMETER Help
This text.
#>
# In the folder: env-N is an environment that is whole as soon as `current` names it, and never
# before; uv and python are those that the machine lacked; cache keeps what has been loaded, so that a
# broken-off run goes on where it was. install.sh is the same for Linux and macOS, with the same tables.
# ASCII alone: Windows PowerShell 5.1 takes anything else for the code page of the machine.
[CmdletBinding()]
param(
    [switch]$Yes,
    [string]$Dir = '',
    [string]$Version = '',
    [string]$From = '',
    [string[]]$Extras = @('auto'),
    [string]$Torch = '',
    [string]$TorchIndex = '',
    [string]$Python = '',
    [string]$Wheels = '',
    [switch]$Uninstall,
    [switch]$Help
)

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue' # Its bar makes downloads of 5.1 many times slower.

$TorchUrl = 'https://download.pytorch.org/whl'
$TorchNeeds = 'torch>=2.8'
# As in constraints.txt, and the builds that have it; of others the newest is taken.
$TestedTorch = '2.13.0'
$TestedBuilds = 'cpu', 'cu126', 'cu130', 'rocm7.2', 'pypi'
$KnownExtras = 'audit', 'cuda', 'faces', 'gather', 'optimizers', 'studio'
$Pythons = '3.12', '3.13', '3.11', '3.14'
$OwnPython = '3.12'
$UvNeeds = '0.5.0'

# PyTorch's builds for NVIDIA, the first that fits is taken: its index, the CUDA that the driver must be
# able to do, and the cards it has code for, from and to (compute capability).
$CudaBuilds = @'
cu130 13.0 7.5 12.9
cu126 12.0 5.0 9.0
cu128 12.8 7.5 12.9
'@

# Megabytes to load and on disk, PyTorch alone; docs/install.md says which are measured.
$TorchSizes = @{ cpu = 130, 550; cuda = 3500, 7000 }
$RestSizes = 210, 550
$UvSize = 18, 37
$PythonSize = 35, 110

function Stop-Install([string]$Problem, [string[]]$Hints = @()) {
    [Console]::Error.WriteLine("install.ps1: $Problem")
    foreach ($hint in $Hints) { [Console]::Error.WriteLine("  $hint") }
    exit 2
}

# What a program prints; nothing where it fails or is not there. Windows PowerShell makes an error of
# each line that goes to a redirected standard error, which must not end the script.
function Read-Program([string]$Program, [string[]]$Words) {
    $ErrorActionPreference = 'SilentlyContinue'
    try {
        $output = & $Program @Words 2>$null
        if ($LASTEXITCODE -eq 0) { return ($output -join "`n").Trim() }
    } catch { Write-Verbose "$Program : $_" }
    return ''
}

# --- what was asked for

function Read-Options {
    if (-not $script:Dir) {
        if (-not $env:LOCALAPPDATA) { Stop-Install 'LOCALAPPDATA is not set' 'name a folder with -Dir' }
        $script:Dir = Join-Path $env:LOCALAPPDATA 'lorasmith'
    }
    $script:Dir = Get-FullPath $script:Dir
    if ($script:From) {
        if ($script:Version) { Stop-Install '-From and -Version exclude each other' 'leave one of them out' }
        if (-not (Test-Path -LiteralPath $script:From)) { Stop-Install "$($script:From): there is no such file or folder (-From)" }
        $script:From = Get-FullPath $script:From
        if (Test-Path -LiteralPath $script:From -PathType Container) {
            if (-not (Test-Path -LiteralPath (Join-Path $script:From 'pyproject.toml'))) {
                Stop-Install "$($script:From): has no pyproject.toml (-From)" 'name the folder that README.md and pyproject.toml of lorasmith are in, or a wheel'
            }
        } elseif ($script:From -notmatch '\.(whl|tar\.gz)$') {
            Stop-Install "$($script:From): is neither a wheel nor a folder (-From)"
        }
    }
    if ($script:Wheels) {
        if (-not (Test-Path -LiteralPath $script:Wheels -PathType Container)) { Stop-Install "$($script:Wheels): there is no such folder (-Wheels)" }
        $script:Wheels = Get-FullPath $script:Wheels
    }
    $script:Extras = @(Get-Extras $script:Extras)
}

# This command, for who wants other extras.
function Get-Again {
    $line = "powershell -ExecutionPolicy Bypass -File $(Format-Word $PSCommandPath)"
    $named = [ordered]@{ Version = $Version; From = $From; Wheels = $Wheels; TorchIndex = $TorchIndex; Python = $Python }
    if (-not $env:LOCALAPPDATA -or $Dir -ne (Join-Path $env:LOCALAPPDATA 'lorasmith')) { $named.Dir = $Dir }
    foreach ($name in $named.Keys) {
        if ($named[$name]) { $line += " -$name $(Format-Word $named[$name])" }
    }
    return $line
}

function Format-Word([string]$Word) {
    if ($Word -match '[^\w.:\\/=-]') { return '"' + $Word + '"' }
    return $Word
}

function Get-FullPath([string]$Path) {
    return $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Path).TrimEnd('\')
}

# -Extras a,b comes as one word through -File, and as two in a session.
function Get-Extras([string[]]$Words) {
    $names = @(($Words -join ',') -split '[,\s]+' | Where-Object { $_ })
    if ($names.Count -eq 1 -and $names[0] -eq 'auto') { return 'auto' }
    if ($names.Count -eq 1 -and $names[0] -eq 'none') { return @() }
    foreach ($name in $names) {
        if ($KnownExtras -notcontains $name) { Stop-Install "there is no extra $name (-Extras)" "there are: $($KnownExtras -join ' ')" }
    }
    return $names
}

# --- what the machine is and has

function Test-System {
    if ([Environment]::OSVersion.Platform -ne 'Win32NT') { Stop-Install 'this script is for Windows' 'on Linux and macOS: install.sh' }
    if ([Environment]::OSVersion.Version.Major -lt 10) { Stop-Install 'lorasmith needs Windows 10 or newer' }
    if (-not [Environment]::Is64BitOperatingSystem) { Stop-Install 'PyTorch has no builds for 32-bit Windows' }
    $machine = $env:PROCESSOR_ARCHITEW6432
    if (-not $machine) { $machine = $env:PROCESSOR_ARCHITECTURE }
    if ($machine -ne 'AMD64') { Stop-Install "this is Windows on $machine; install.ps1 installs for x86-64 alone" }
}

# Numbers between dots, compared one by one.
function Test-AtLeast([string]$Have, [string]$Need) {
    $a = @($Have -split '\.'); $b = @($Need -split '\.')
    for ($i = 0; $i -lt $b.Count; $i++) {
        $x = 0; $y = [int]$b[$i]
        if ($i -lt $a.Count) { [void][int]::TryParse($a[$i], [ref]$x) }
        if ($x -ne $y) { return $x -gt $y }
    }
    return $true
}

# The version of a Python, where it is one that everything has wheels for; else nothing. No double
# quotes: 5.1 loses those on the way to a program.
function Get-PythonVersion([string]$Path) {
    $code = "import platform, struct, sys, sysconfig; " +
    "fits = ((3, 11) <= sys.version_info[:2] <= (3, 14) and sys.version_info.releaselevel == 'final' " +
    "and platform.python_implementation() == 'CPython' and not sysconfig.get_config_var('Py_GIL_DISABLED') " +
    "and struct.calcsize('P') == 8); print(platform.python_version() if fits else '')"
    return Read-Program $Path @('-I', '-c', $code)
}

# Those that installers of python.org have registered: neither those of the Store, whose files go
# elsewhere than they say, nor conda's, whose libraries are found in their own environment alone.
function Get-RegisteredPythons {
    foreach ($minor in $Pythons) {
        foreach ($hive in 'HKCU:', 'HKLM:') {
            $key = Get-ItemProperty -Path "$hive\Software\Python\PythonCore\$minor\InstallPath" -ErrorAction SilentlyContinue
            if ($key -and $key.ExecutablePath -and (Test-Path -LiteralPath $key.ExecutablePath)) { $key.ExecutablePath }
        }
    }
}

# Path and version, both empty where uv is to load one.
function Find-Python {
    if ($Python -eq 'own') { return @{ Path = ''; Version = '' } }
    if ($Python) {
        $command = Get-Command $Python -CommandType Application -ErrorAction SilentlyContinue | Select-Object -First 1
        if (-not $command) { Stop-Install "${Python}: there is no such program (-Python)" }
        $found = Get-PythonVersion $command.Path
        if (-not $found) { Stop-Install "${Python}: is no 64-bit CPython 3.11 to 3.14 (-Python)" 'leave -Python out: one is found, or loaded' }
        return @{ Path = $command.Path; Version = $found }
    }
    foreach ($path in Get-RegisteredPythons) {
        $found = Get-PythonVersion $path
        if ($found) { return @{ Path = $path; Version = $found } }
    }
    return @{ Path = ''; Version = '' }
}

function Test-Uv([string]$Path) {
    $found = (Read-Program $Path @('--version')) -split '\s+'
    return ($found.Count -ge 2) -and (Test-AtLeast $found[1] $UvNeeds)
}

# Where uv is, and where it comes from: there, wheels, pip, installer.
function Find-Uv($FoundPython) {
    $own = Join-Path $Dir 'uv\uv.exe'
    if ((Test-Path -LiteralPath $own) -and (Test-Uv $own)) { return @{ Path = $own; Source = 'there' } }
    $command = Get-Command uv.exe -CommandType Application -ErrorAction SilentlyContinue | Select-Object -First 1
    if ($command -and (Test-Uv $command.Path)) { return @{ Path = $command.Path; Source = 'there' } }
    if ($Wheels) {
        $wheel = Get-ChildItem -LiteralPath $Wheels -Filter 'uv-*-win_amd64.whl' | Sort-Object Name | Select-Object -Last 1
        if (-not $wheel) { Stop-Install "${Wheels}: holds no wheel of uv for this machine, and uv is not installed" 'put it there: pip download --no-deps uv' }
        return @{ Path = $own; Source = 'wheels'; Wheel = $wheel.FullName }
    }
    if ($FoundPython.Path -and (Read-Program $FoundPython.Path @('-I', '-m', 'pip', '--version'))) { return @{ Path = $own; Source = 'pip' } }
    return @{ Path = $own; Source = 'installer' }
}

# --- which PyTorch

function Find-NvidiaSmi {
    $command = Get-Command nvidia-smi.exe -CommandType Application -ErrorAction SilentlyContinue | Select-Object -First 1
    if ($command) { return $command.Path }
    foreach ($path in "$env:SystemRoot\System32\nvidia-smi.exe", "$env:ProgramFiles\NVIDIA Corporation\NVSMI\nvidia-smi.exe") {
        if (Test-Path -LiteralPath $path) { return $path }
    }
    return ''
}

# Newer drivers write "CUDA UMD Version".
function Get-DriverCuda([string]$Text) {
    if ($Text -match 'CUDA(?: \w+)? Version\s*:\s*(\d+\.\d+)') { return $Matches[1] }
    return ''
}

function Get-Capabilities([string]$Text) {
    return @($Text -split '\r?\n' | ForEach-Object { $_.Trim() } | Where-Object { $_ -match '^\d+\.\d+$' })
}

function Get-Number([string]$Dotted) {
    $part = $Dotted -split '\.'
    return [int]$part[0] * 100 + [int]$part[1]
}

# Of the builds that the driver runs, the first that has code for most of the cards; cpu where none
# has for any.
function Select-Cuda([string]$DriverCuda, [string[]]$Capabilities = @()) {
    $best = 'cpu'; $most = 0
    foreach ($line in $CudaBuilds -split '\r?\n') {
        $field = $line.Trim() -split '\s+'
        if ($field.Count -ne 4) { continue }
        if ((Get-Number $field[1]) -gt (Get-Number $DriverCuda)) { continue }
        $served = 1
        if ($Capabilities.Count) {
            $served = @($Capabilities | Where-Object {
                    (Get-Number $_) -ge (Get-Number $field[2]) -and (Get-Number $_) -le (Get-Number $field[3])
                }).Count
        }
        if ($served -gt $most) { $best = $field[0]; $most = $served }
    }
    return $best
}

function Select-Torch {
    if ($Torch) {
        if (-not (Test-Build $Torch)) {
            Stop-Install "there is no build $Torch of PyTorch for Windows (-Torch)" 'there are: auto, cpu, cu126, cu128, cu130, xpu, pypi; others with -TorchIndex URL'
        }
        return @{ Build = $Torch; Why = 'as asked for' }
    }
    $smi = Find-NvidiaSmi
    if ($smi) {
        $cuda = Get-DriverCuda (Read-Program $smi @())
        $cards = @(Get-Capabilities (Read-Program $smi @('--query-gpu=compute_cap', '--format=csv,noheader')))
        if ($cuda) {
            $why = "NVIDIA's driver can do CUDA $cuda"
            if ($cards.Count) { $why += ", the card is of compute capability $($cards -join ' ')" }
            $build = Select-Cuda $cuda $cards
            if ($build -eq 'cpu') { $why += ': too old for every build with CUDA; renew the driver (527 or newer), then run this again' }
            return @{ Build = $build; Why = $why }
        }
    }
    return @{ Build = 'cpu'; Why = 'no NVIDIA card with a working driver was found' }
}

# One of the tables; where the index is named, whatever is called as PyTorch calls its builds.
function Test-Build([string]$Name) {
    if ($Name -match '^cu\d+$') {
        return [bool]$TorchIndex -or @($CudaBuilds -split '\r?\n' | Where-Object { ($_.Trim() -split '\s+')[0] -eq $Name }).Count -gt 0
    }
    return 'cpu', 'pypi', 'xpu' -contains $Name
}

# What of that build: the version that is there, the tested one, or the newest.
function Select-TorchVersion([string]$Build, [string]$Kept) {
    if ($Kept) { return @{ Spec = "torch==$Kept"; Says = "$Kept, which is there, stays" } }
    if ($Wheels) { return @{ Spec = $TorchNeeds; Says = 'the newest in the folder of wheels' } }
    $tested = "torch==$TestedTorch"
    if ($TorchIndex) { return @{ Spec = $tested; Says = "$TestedTorch, the tested version, if the index has it; else the newest" } }
    if ($TestedBuilds -contains $Build) { return @{ Spec = $tested; Says = "$TestedTorch, the tested version" } }
    return @{ Spec = $TorchNeeds; Says = "the newest there is of it, since $TestedTorch, the tested version, may not be" }
}

# Those that are there, or the studio and what suits the build.
function Get-DefaultExtras([string]$Build) {
    $current = Get-FirstLine (Join-Path $Dir 'current')
    if ($current) { return @((Get-FirstLine (Join-Path $Dir "$current\extras")) -split ',' | Where-Object { $_ }) }
    if ($Build -match '^cu\d') { return @('cuda', 'studio') }
    return @('studio')
}

# --- what it takes, and whether the user wants it

function Get-Sizes([string]$Build, $FoundPython, $FoundUv, [string]$Kept = '') {
    $kind = 'cpu'
    if ($Build -match '^(cu\d+|xpu)$') { $kind = 'cuda' }
    $parts = @(, $TorchSizes[$kind]) + @(, $RestSizes)
    if ($FoundUv.Source -ne 'there') { $parts += , $UvSize }
    if (-not $FoundPython.Path) { $parts += , $PythonSize }
    $load = 0; $disk = 0
    foreach ($part in $parts) { $load += $part[0]; $disk += $part[1] }
    # What is there is in the cache.
    $cache = Join-Path $Dir 'cache'
    if ($env:UV_CACHE_DIR) { $cache = $env:UV_CACHE_DIR }
    if ($Kept -and (Test-Path -LiteralPath $cache)) { $load -= $TorchSizes[$kind][0] }
    return @{ Load = $load; Disk = $disk }
}

# Megabytes; nothing is known of a folder on another computer.
function Get-FreeSpace([string]$Path) {
    $root = [IO.Path]::GetPathRoot($Path)
    if ($root -notmatch '^[A-Za-z]:' -or -not (Test-Path -LiteralPath $root)) { return $null }
    return [long]((New-Object IO.DriveInfo $root).AvailableFreeSpace / 1048576)
}

function Format-Amount([long]$Megabytes) {
    if ($Megabytes -ge 1000) { return [string]::Format([Globalization.CultureInfo]::InvariantCulture, '{0:0.0} GB', $Megabytes / 1000) }
    return "$Megabytes MB"
}

function Test-Places($Sizes, $Free) {
    $marker = Join-Path $Dir 'lorasmith-install'
    if ((Test-Path -LiteralPath $Dir) -and -not (Test-Path -LiteralPath $marker) -and @(Get-ChildItem -LiteralPath $Dir -Force).Count) {
        Stop-Install "${Dir}: is not empty, and not a folder that this script made" 'name another with -Dir'
    }
    if (-not (Test-Path -LiteralPath (Join-Path $Dir 'current')) -and $null -ne $Free -and $Free -lt $Sizes.Disk) {
        Stop-Install "${Dir}: its disk has $(Format-Amount $Free) free, and about $(Format-Amount $Sizes.Disk) are needed" `
            'make room, or name a folder on another disk with -Dir'
    }
}

function Write-Plan($FoundPython, $FoundUv, $Choice, $Sizes, $Free) {
    $there = Test-Path -LiteralPath (Join-Path $Dir 'current')
    $what = 'lorasmith, the newest release'
    if ($From) { $what = $From } elseif ($Version) { $what = "lorasmith $Version" }
    if ($Extras.Count) { $what += ", with the extras $($Extras -join ',')" }
    if ($there) { 'lorasmith is brought up to date. Nothing outside of these places is changed:' }
    else { 'lorasmith is installed for this user. Nothing outside of these places is changed:' }
    ''
    "  folder    $Dir"
    "  command   $Dir\bin\lorasmith.cmd, and this folder on your path"
    ''
    "  what      $what"
    if ($FoundPython.Path) { "  Python    $($FoundPython.Version), $($FoundPython.Path)" } else { "  Python    $OwnPython, its own, loaded by uv" }
    "  PyTorch   $($Choice.Build) ($($Choice.Why)): $($Choice.Version.Says)"
    switch ($FoundUv.Source) {
        'there' { "  uv        $($FoundUv.Path)" }
        'wheels' { "  uv        from $($FoundUv.Wheel)" }
        'pip' { '  uv        loaded by pip' }
        'installer' { '  uv        loaded by its installer, https://astral.sh/uv/install.ps1' }
    }
    if ($Wheels) { "  to load   nothing: all from $Wheels" }
    elseif ($there) { "  to load   what is new since the last time; at most about $(Format-Amount $Sizes.Load)" }
    else { "  to load   about $(Format-Amount $Sizes.Load)" }
    $room = "  on disk   about $(Format-Amount $Sizes.Disk)"
    if ($null -ne $Free) { $room += "; $(Format-Amount $Free) are free" }
    $room
    ''
    if (-not (Test-Path -LiteralPath "$env:SystemRoot\System32\msvcp140.dll") -or -not (Test-Path -LiteralPath "$env:SystemRoot\System32\vcruntime140_1.dll")) {
        'PyTorch needs the Microsoft Visual C++ Redistributable, which is missing. Install it first, or afterwards:'
        '  https://aka.ms/vs/17/release/vc_redist.x64.exe'
        ''
    }
}

function Confirm-Going {
    if ($Yes) { return }
    if ([Console]::IsInputRedirected) { Stop-Install 'there is no terminal to ask at' 'say -Yes to go on without being asked' }
    if ((Read-Host 'Go on? [y/N]') -notmatch '^(y|yes)$') {
        'Nothing was done.' | Out-Host
        exit 130
    }
}

# --- doing it

# Variables that would lead pip, uv or Python to other places than the folder; in this process alone,
# and put back at its end, since a script shares them with the session.
function Set-Isolation {
    $script:SavedEnvironment = @{}
    foreach ($entry in [Environment]::GetEnvironmentVariables('Process').GetEnumerator()) { $script:SavedEnvironment[$entry.Key] = $entry.Value }
    $lead = 'PYTHONPATH', 'PYTHONHOME', 'PYTHONSTARTUP', 'PYTHONUSERBASE', 'VIRTUAL_ENV', 'CONDA_PREFIX',
    'PIP_TARGET', 'PIP_PREFIX', 'PIP_ROOT', 'PIP_USER', 'PIP_REQUIRE_VIRTUALENV', 'PIP_PYTHON', 'PIP_CONSTRAINT', 'PIP_REQUIREMENT',
    'UV_PYTHON', 'UV_SYSTEM_PYTHON', 'UV_BREAK_SYSTEM_PACKAGES', 'UV_PROJECT', 'UV_PROJECT_ENVIRONMENT', 'UV_WORKING_DIR',
    'UV_TORCH_BACKEND', 'UV_MANAGED_PYTHON', 'UV_NO_MANAGED_PYTHON', 'UV_PYTHON_PREFERENCE', 'UV_PYTHON_DOWNLOADS',
    'UV_NO_CACHE', 'UV_LINK_MODE', 'UV_COMPILE_BYTECODE', 'UV_REQUIRE_HASHES', 'UV_VENV_CLEAR'
    foreach ($name in $lead) { Remove-Item "Env:$name" -ErrorAction SilentlyContinue }
    $env:UV_PYTHON_INSTALL_DIR = Join-Path $Dir 'python'
    $env:UV_PYTHON_INSTALL_BIN = '0'
    $env:UV_PYTHON_INSTALL_REGISTRY = '0'
    if (-not $env:UV_CACHE_DIR) { $env:UV_CACHE_DIR = Join-Path $Dir 'cache' }
    # uv locks its passwords for indexes, and leaves the lock where there are none.
    if (-not $env:UV_CREDENTIALS_DIR -and -not (Test-Path -LiteralPath "$env:APPDATA\uv\data\credentials")) {
        $env:UV_CREDENTIALS_DIR = Join-Path $Dir 'credentials'
    }
    # Where the user has told pip of another index, uv takes it, too.
    if (-not $env:UV_DEFAULT_INDEX -and -not $env:UV_INDEX_URL -and $env:PIP_INDEX_URL) { $env:UV_DEFAULT_INDEX = $env:PIP_INDEX_URL }
    if (-not $env:UV_INDEX -and -not $env:UV_EXTRA_INDEX_URL -and $env:PIP_EXTRA_INDEX_URL) { $env:UV_INDEX = $env:PIP_EXTRA_INDEX_URL }
    if (-not $env:SSL_CERT_FILE -and $env:PIP_CERT) { $env:SSL_CERT_FILE = $env:PIP_CERT }
    if (-not $env:HTTPS_PROXY -and -not $env:ALL_PROXY -and $env:PIP_PROXY) { $env:ALL_PROXY = $env:PIP_PROXY }
}

function Reset-Environment {
    if (-not $script:SavedEnvironment) { return }
    foreach ($name in @([Environment]::GetEnvironmentVariables('Process').Keys)) {
        if (-not $script:SavedEnvironment.ContainsKey($name)) { Remove-Item "Env:$name" -ErrorAction SilentlyContinue }
    }
    foreach ($name in $script:SavedEnvironment.Keys) { [Environment]::SetEnvironmentVariable($name, $script:SavedEnvironment[$name], 'Process') }
}

# Held while the file is open, and free when this process ends, however it ends.
function Lock-Folder {
    try { return [IO.File]::Open((Join-Path $Dir 'lock'), 'OpenOrCreate', 'ReadWrite', 'None') }
    catch [IO.IOException] { Stop-Install "${Dir}: another installation is under way there" 'wait for it to end' }
}

# A step that may fail for reasons outside: the network, a full disk, an index.
function Invoke-Step([string]$Title, [string]$Program, [string[]]$Words) {
    Write-Host "- $Title"
    $ErrorActionPreference = 'Continue'
    & $Program @Words | Out-Host
    if ($LASTEXITCODE -ne 0) { Stop-Step $Title }
}

function Stop-Step([string]$Title) {
    Stop-Install "could not go on with: $Title" 'uv, or what it ran, says why above',
    'what has been loaded is kept: the same command goes on from there',
    'behind a proxy, set HTTPS_PROXY; without a network, see -Wheels'
}

function Install-Uv($FoundPython, $FoundUv) {
    $part = Join-Path $Dir 'uv.part'
    if (Test-Path -LiteralPath $part) { Remove-Item -LiteralPath $part -Recurse -Force }
    [void](New-Item -ItemType Directory -Path $part)
    if ($FoundUv.Source -eq 'wheels') {
        Copy-Item -LiteralPath $FoundUv.Wheel -Destination "$part\uv.zip" # A wheel is a zip file.
        Expand-Archive -LiteralPath "$part\uv.zip" -DestinationPath "$part\wheel"
    } elseif ($FoundUv.Source -eq 'pip') {
        Write-Host '- uv, by pip'
        [void](Read-Program $FoundPython.Path @('-I', '-m', 'pip', 'install', '--quiet', '--no-deps', '--only-binary', ':all:', '--target', "$part\wheel", 'uv'))
    }
    $loaded = Get-ChildItem -LiteralPath $part -Recurse -Filter uv.exe | Select-Object -First 1
    if ($loaded) { Move-Item -LiteralPath $loaded.FullName -Destination "$part\uv.exe" } else { Install-UvByInstaller $part }
    foreach ($rest in "$part\wheel", "$part\uv.zip", "$part\install.ps1") {
        if (Test-Path -LiteralPath $rest) { Remove-Item -LiteralPath $rest -Recurse -Force }
    }
    if (-not (Test-Uv "$part\uv.exe")) { Stop-Step 'loading uv' }
    $place = Join-Path $Dir 'uv'
    if (Test-Path -LiteralPath $place) { Remove-Item -LiteralPath $place -Recurse -Force }
    Move-Item -LiteralPath $part -Destination $place
}

function Install-UvByInstaller([string]$Part) {
    Write-Host '- uv, by its installer'
    [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12
    try { Invoke-WebRequest -UseBasicParsing https://astral.sh/uv/install.ps1 -OutFile "$Part\install.ps1" }
    catch { Stop-Install "could not load https://astral.sh/uv/install.ps1: $($_.Exception.Message)" 'behind a proxy, set HTTPS_PROXY; without a network, see -Wheels' }
    $env:UV_UNMANAGED_INSTALL = $Part
    & powershell -NoProfile -ExecutionPolicy Bypass -File "$Part\install.ps1" | Out-Host
    Remove-Item Env:UV_UNMANAGED_INSTALL
}

function Install-IntoEnv([string]$Target, [string]$Uv, $FoundPython, [string]$Build, [string]$TorchSpec) {
    $path = $FoundPython.Path
    if (-not $path) {
        Invoke-Step "Python $OwnPython" $Uv @('python', 'install', $OwnPython)
        $path = Read-Program $Uv @('python', 'find', '--managed-python', $OwnPython)
        if (-not $path) { Stop-Step 'finding the Python that was loaded' }
    }
    Invoke-Step 'an environment of its own' $Uv @('venv', '--quiet', '--python', $path, '--no-python-downloads', $Target)
    $install = @('pip', 'install', '--python', "$Target\Scripts\python.exe")
    if ($Wheels) { $install += '--no-index', '--find-links', $Wheels }

    # Without what it needs first: it says with which versions it was tested.
    $spec = 'lorasmith'
    if ($From) { $spec = $From } elseif ($Version) { $spec = "lorasmith==$Version" }
    $words = @('--no-deps', $spec)
    # uv looks at pyproject.toml alone to see whether a folder has changed.
    if ($From -and (Test-Path -LiteralPath $From -PathType Container)) { $words = @('--refresh-package', 'lorasmith') + $words }
    Invoke-Step 'lorasmith' $Uv ($install + $words)

    if ($Wheels -or ($Build -eq 'pypi' -and -not $TorchIndex)) {
        Invoke-Step 'PyTorch' $Uv ($install + $TorchSpec)
    } else {
        $index = "$TorchUrl/$Build"
        if ($TorchIndex) { $index = $TorchIndex }
        # From this index alone: another one that the user has would go before it, with another build.
        $others = $env:UV_INDEX, $env:UV_EXTRA_INDEX_URL
        $env:UV_INDEX = $null; $env:UV_EXTRA_INDEX_URL = $null
        $words = $install + @('--default-index', $index)
        if ($TorchIndex -and $TorchSpec -eq "torch==$TestedTorch") {
            # The index of someone's own may have other versions alone.
            Write-Host "- PyTorch $TestedTorch, build $Build"
            $ErrorActionPreference = 'Continue'
            & $Uv @($words + $TorchSpec) | Out-Host
            $ErrorActionPreference = 'Stop'
            if ($LASTEXITCODE -ne 0) { Invoke-Step 'the newest PyTorch of that index' $Uv ($words + $TorchNeeds) }
        } else { Invoke-Step "PyTorch, build $Build" $Uv ($words + $TorchSpec) }
        $env:UV_INDEX, $env:UV_EXTRA_INDEX_URL = $others
    }

    $spec = 'lorasmith'
    if ($Extras.Count) { $spec += "[$($Extras -join ',')]" }
    $words = @($spec)
    $tested = "$Target\Lib\site-packages\lorasmith\assets\constraints.txt"
    if (-not $Wheels -and (Test-Path -LiteralPath $tested)) {
        # PyTorch is there already, in the build that fits.
        $lines = @([IO.File]::ReadAllLines($tested) | Where-Object { $_ -notmatch '^torch==' })
        [IO.File]::WriteAllLines("$Target\constraints.txt", [string[]]$lines)
        $words = @('--constraints', "$Target\constraints.txt") + $words
    }
    # For packages that someone adds: uv makes environments without it.
    if (-not $Wheels) { $words += 'pip' }
    Invoke-Step 'what lorasmith needs' $Uv ($install + $words)
    Test-Env $Target $Build
}

function Test-Env([string]$Target, [string]$Build) {
    $found = Read-Program "$Target\Scripts\lorasmith.exe" @('--version')
    if (-not $found) { Stop-Step 'starting lorasmith' }
    $torch = (Read-Program "$Target\Scripts\python.exe" @('-I', '-c', "import torch; print(torch.__version__); print('cuda' if torch.cuda.is_available() else 'none')")) -split '\s+'
    if ($torch.Count -lt 2) {
        Stop-Install 'PyTorch does not start' 'mostly the Microsoft Visual C++ Redistributable is missing:', 'https://aka.ms/vs/17/release/vc_redist.x64.exe'
    }
    Set-Lines "$Target\version" $found
    Set-Lines "$Target\torch" $torch[0]
    Set-Lines "$Target\build" $Build
    Set-Lines "$Target\extras" ($Extras -join ',')
    Set-Lines "$Target\named-build" $Torch
    Set-Lines "$Target\again" (Get-Again)
    if ($Build -match '^cu\d' -and $torch[1] -ne 'cuda') { Write-Host "Note: PyTorch $Build does not find the GPU. lorasmith doctor says why." }
}

# Without the mark at the beginning that Out-File of 5.1 writes.
function Set-Lines([string]$Path, [string]$Text) { [IO.File]::WriteAllText($Path, "$Text`r`n") }

function Get-FirstLine([string]$Path) {
    if (-not (Test-Path -LiteralPath $Path)) { return '' }
    return ([IO.File]::ReadAllLines($Path) | Select-Object -First 1)
}

# The number of the environment to build, one above all that are there.
function Get-NextEnv {
    $number = 1
    while (Test-Path -LiteralPath (Join-Path $Dir "env-$number")) { $number++ }
    return Join-Path $Dir "env-$number"
}

# All but one: those that are not whole, and what was before. One that runs cannot be renamed, and
# stays until the next time.
function Remove-OtherEnvs([string]$Kept) {
    foreach ($other in @(Get-ChildItem -LiteralPath $Dir -Directory -Filter 'env-*')) {
        if ($other.Name -eq $Kept) { continue }
        $old = $other.FullName
        try {
            if ($old -notlike '*.old') { $old = "$old.old"; Move-Item -LiteralPath $other.FullName -Destination $old }
            Remove-Item -LiteralPath $old -Recurse -Force
        } catch { Write-Host "$($other.FullName) is in use, and is removed the next time." }
    }
}

# Where it is is said by where it lies: cmd.exe would read other letters than ASCII wrongly.
function Write-Launcher {
    $bin = Join-Path $Dir 'bin'
    [void](New-Item -ItemType Directory -Path $bin -Force)
    $lines = '@echo off', 'setlocal', 'set PYTHONPATH=', 'set PYTHONHOME=',
    'set /p LORASMITH_ENV=<"%~dp0..\current"', '"%~dp0..\%LORASMITH_ENV%\Scripts\lorasmith.exe" %*'
    [IO.File]::WriteAllText((Join-Path $bin 'lorasmith.cmd'), ($lines -join "`r`n") + "`r`n")
}

# The user's path as it is in the registry, with what is written there as %NAME%.
function Get-UserPath {
    $key = [Microsoft.Win32.Registry]::CurrentUser.OpenSubKey('Environment')
    if (-not $key) { return '' }
    return [string]$key.GetValue('Path', '', [Microsoft.Win32.RegistryValueOptions]::DoNotExpandEnvironmentNames)
}

function Set-UserPath([string]$Path) {
    $key = [Microsoft.Win32.Registry]::CurrentUser.CreateSubKey('Environment')
    $key.SetValue('Path', $Path, [Microsoft.Win32.RegistryValueKind]::ExpandString)
    # This tells programs that run that the environment has changed.
    [Environment]::SetEnvironmentVariable('LORASMITH_PATH', $null, 'User')
}

function Add-ToPath([string]$Path, [string]$Folder) {
    $folders = @($Path -split ';' | Where-Object { $_ })
    if ($folders -contains $Folder) { return $Path }
    return ($folders + $Folder) -join ';'
}

function Remove-FromPath([string]$Path, [string]$Folder) {
    return @($Path -split ';' | Where-Object { $_ -and $_ -ne $Folder }) -join ';'
}

function Install-Lorasmith {
    Test-System
    $foundPython = Find-Python
    $foundUv = Find-Uv $foundPython
    # A build that was named stays, until another one is, or auto.
    $asked = [bool]$Torch
    $before = Get-FirstLine (Join-Path $Dir 'current')
    if (-not $asked -and $before) { $script:Torch = Get-FirstLine (Join-Path $Dir "$before\named-build") }
    if ($Torch -eq 'auto') { $script:Torch = '' }
    $choice = Select-Torch
    $build = $choice.Build
    if ($Extras.Count -eq 1 -and $Extras[0] -eq 'auto') { $script:Extras = @(Get-DefaultExtras $build) }
    # PyTorch stays as it is unless another build of it is called for.
    $kept = ''
    if ($before -and -not $asked -and (Get-FirstLine (Join-Path $Dir "$before\build")) -eq $build) { $kept = Get-FirstLine (Join-Path $Dir "$before\torch") }
    $choice.Version = Select-TorchVersion $build $kept
    $sizes = Get-Sizes $build $foundPython $foundUv $kept
    $free = Get-FreeSpace $Dir
    Test-Places $sizes $free
    Write-Plan $foundPython $foundUv $choice $sizes $free | Out-Host
    Confirm-Going

    [void](New-Item -ItemType Directory -Path $Dir -Force)
    Set-Lines (Join-Path $Dir 'lorasmith-install') "This folder was made by lorasmith's install.ps1, whose -Uninstall removes it."
    $lock = Lock-Folder
    try {
        Set-Isolation
        # uv reads settings of the folder that it runs in, and of those above.
        Push-Location -LiteralPath $Dir
        $current = Get-FirstLine (Join-Path $Dir 'current')
        # What a broken-off run has left: not whole, and quickly made again from the cache.
        Remove-OtherEnvs $current
        if ($foundUv.Source -ne 'there') { Install-Uv $foundPython $foundUv }
        $target = Get-NextEnv
        Install-IntoEnv $target $foundUv.Path $foundPython $build $choice.Version.Spec
        Write-Launcher
        # From here on it is whole.
        Set-Lines (Join-Path $Dir 'current.part') (Split-Path $target -Leaf)
        Move-Item -LiteralPath (Join-Path $Dir 'current.part') -Destination (Join-Path $Dir 'current') -Force
        Remove-OtherEnvs (Split-Path $target -Leaf)
        [void](Read-Program $foundUv.Path @('cache', 'prune', '--quiet'))
        Write-Host ''
        Write-Host "$(Get-FirstLine "$target\version") is installed, with PyTorch $(Get-FirstLine "$target\torch")."
    } finally {
        Pop-Location
        Reset-Environment
        $lock.Dispose()
        Remove-Item -LiteralPath (Join-Path $Dir 'lock') -Force -ErrorAction SilentlyContinue
    }
    $bin = Join-Path $Dir 'bin'
    $path = Get-UserPath
    if ((Add-ToPath $path $bin) -ne $path) { Set-UserPath (Add-ToPath $path $bin) }
    if (@($env:Path -split ';') -notcontains $bin) { $env:Path += ";$bin" }
    Write-Host "Try it, in a new terminal: lorasmith demo"
}

function Uninstall-Lorasmith {
    if (-not (Test-Path -LiteralPath $Dir)) { Stop-Install "${Dir}: there is no such folder" 'name the one that lorasmith was installed into with -Dir' }
    if (-not (Test-Path -LiteralPath (Join-Path $Dir 'lorasmith-install'))) {
        Stop-Install "${Dir}: was not made by this script, and is left alone" 'name the folder that lorasmith was installed into with -Dir'
    }
    Write-Host 'Removed are:'
    Write-Host "  $Dir"
    Write-Host "  $Dir\bin from your path"
    Confirm-Going
    (Lock-Folder).Dispose()
    # What the script has made, and nothing that came there otherwise. `current` first, so that
    # nothing half removed is taken for whole.
    $made = 'current', 'current.part', 'bin\lorasmith.cmd', 'uv', 'uv.part', 'python', 'cache', 'credentials', 'lock'
    foreach ($name in $made + @(Get-ChildItem -LiteralPath $Dir -Directory -Filter 'env-*' | ForEach-Object { $_.Name })) {
        $path = Join-Path $Dir $name
        if (-not (Test-Path -LiteralPath $path)) { continue }
        try { Remove-Item -LiteralPath $path -Recurse -Force }
        catch { Stop-Install "${path}: $($_.Exception.Message)" 'end what runs from there, and run this again' }
    }
    $path = Get-UserPath
    $without = Remove-FromPath $path (Join-Path $Dir 'bin')
    if ($without -ne $path) { Set-UserPath $without }
    Remove-Item -LiteralPath (Join-Path $Dir 'lorasmith-install') -Force
    foreach ($folder in (Join-Path $Dir 'bin'), $Dir) {
        if ((Test-Path -LiteralPath $folder) -and -not @(Get-ChildItem -LiteralPath $folder -Force).Count) { Remove-Item -LiteralPath $folder -Force }
    }
    if (Test-Path -LiteralPath $Dir) { Write-Host "lorasmith is removed. $Dir is kept, because something else is in it." }
    else { Write-Host 'lorasmith is removed.' }
}

# Loaded with a dot, as its tests do, it defines its functions and does nothing.
if ($MyInvocation.InvocationName -ne '.') {
    if ($Help) {
        Get-Help $MyInvocation.MyCommand.Path -Full
        exit 0
    }
    try {
        Read-Options
        if ($Uninstall) { Uninstall-Lorasmith } else { Install-Lorasmith }
    } catch {
        # A disk that is gone, a file that may not be written.
        [Console]::Error.WriteLine("install.ps1: $($_.Exception.Message) (line $($_.InvocationInfo.ScriptLineNumber))")
        exit 1
    }
}
