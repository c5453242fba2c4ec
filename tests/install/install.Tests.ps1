# Pester 5: Invoke-Pester tests/install. What install.ps1's functions answer, without installing anything.
BeforeAll {
    . "$PSScriptRoot/../../install.ps1"
}

Describe 'the build of PyTorch' {
    It 'is <Build> for a driver of <Cuda> and cards of <Cards>' -TestCases @(
        @{ Cuda = '13.0'; Cards = @(); Build = 'cu130' }
        @{ Cuda = '13.1'; Cards = @('8.6'); Build = 'cu130' }
        @{ Cuda = '13.0'; Cards = @('6.1'); Build = 'cu126' }
        @{ Cuda = '12.8'; Cards = @('12.0'); Build = 'cu128' }
        @{ Cuda = '12.2'; Cards = @('7.0', '3.5'); Build = 'cu126' }
        @{ Cuda = '12.2'; Cards = @('12.0'); Build = 'cpu' }
        @{ Cuda = '11.8'; Cards = @('8.6'); Build = 'cpu' }
    ) {
        Select-Cuda $Cuda $Cards | Should -Be $Build
    }

    It 'reads what nvidia-smi prints' {
        Get-DriverCuda '| NVIDIA-SMI 560.94   Driver Version: 560.94   CUDA Version: 12.6 |' | Should -Be '12.6'
        Get-DriverCuda '| KMD Version: 595.1   CUDA UMD Version: 13.2 |' | Should -Be '13.2'
        Get-DriverCuda 'NVIDIA-SMI has failed' | Should -Be ''
        Get-Capabilities "8.6`r`n7.5`r`n[N/A]`r`n" | Should -Be @('8.6', '7.5')
    }

    It 'is one that there is' {
        Test-Build 'cu130' | Should -BeTrue
        Test-Build 'xpu' | Should -BeTrue
        Test-Build 'cu999' | Should -BeFalse
        Test-Build 'cuda' | Should -BeFalse
    }

    It 'has the tested version, where there is one' {
        (Select-TorchVersion 'cpu' '').Spec | Should -Be "torch==$TestedTorch"
        (Select-TorchVersion 'cu128' '').Spec | Should -Be $TorchNeeds
        (Select-TorchVersion 'cpu' '2.12.0+cpu').Spec | Should -Be 'torch==2.12.0+cpu'
    }
}

Describe 'options' {
    It 'takes extras in one word and in several' {
        Get-Extras @('cuda,audit') | Should -Be @('cuda', 'audit')
        Get-Extras @('cuda', 'audit') | Should -Be @('cuda', 'audit')
        Get-Extras @('none') | Should -BeNullOrEmpty
        Get-Extras @('auto') | Should -Be 'auto'
    }

    It 'compares versions by their numbers' {
        Test-AtLeast '0.13.9' '0.5.0' | Should -BeTrue
        Test-AtLeast '0.4.30' '0.5.0' | Should -BeFalse
        Test-AtLeast '1' '0.5.0' | Should -BeTrue
    }
}

Describe 'the path' {
    It 'gets a folder once, and loses it again' {
        $path = Add-ToPath '%USERPROFILE%\bin;C:\tools' 'C:\l\bin'
        $path | Should -Be '%USERPROFILE%\bin;C:\tools;C:\l\bin'
        Add-ToPath $path 'C:\l\bin' | Should -Be $path
        Remove-FromPath $path 'C:\l\bin' | Should -Be '%USERPROFILE%\bin;C:\tools'
    }
}

Describe 'amounts' {
    It 'are written alike in every language' {
        Format-Amount 350 | Should -Be '350 MB'
        Format-Amount 6250 | Should -Match '^6\.[23] GB$'
    }
}

Describe 'programs' {
    It 'that fail or are not there print nothing' {
        Read-Program 'no-such-program' @('--version') | Should -Be ''
        Read-Program 'cmd.exe' @('/c', 'echo words 1>&2 & exit 3') | Should -Be ''
        Read-Program 'cmd.exe' @('/c', 'echo noise 1>&2 & echo words') | Should -Be 'words'
    }
}
