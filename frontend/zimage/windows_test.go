package zimage

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
)

func TestPrograms(t *testing.T) {
	for _, c := range []struct {
		shell string
		exec  []string
		want  []string
	}{
		{"choco install x", nil, []string{"choco"}},
		{`C:\tools\Choco.EXE install`, nil, []string{"choco"}},
		{"echo choco && dir; winget x | more", nil, []string{"echo", "dir", "winget", "more"}},
		{`cmd /S /C "choco install && echo"`, nil, []string{"cmd", "choco", "echo"}},
		{`powershell -NoProfile -ExecutionPolicy Bypass -Command "& choco install"`, nil, []string{"powershell", "choco"}},
		{`powershell -File choco.ps1`, nil, []string{"powershell"}},
		{`cmd /c powershell -c "cmd /k 'choco x'"`, nil, []string{"cmd", "powershell", "cmd", "choco"}},
		{"", []string{"pwsh", "-Command", "choco", "install"}, []string{"pwsh", "choco"}},
		{"", []string{"echo", "a && choco x"}, []string{"echo"}},
		{`echo "a && choco x"`, nil, []string{"echo"}},
		{"cmd", nil, []string{"cmd"}},
		{"", nil, nil},
	} {
		if got := programs(c.shell, c.exec, 0); !slices.Equal(got, c.want) {
			t.Errorf("%q %q: got %q, want %q", c.shell, c.exec, got, c.want)
		}
	}
}

func TestCheckWindowsDockerfile(t *testing.T) {
	text := []byte(`ARG BASE=mcr.microsoft.com/windows/nanoserver:1809
FROM $BASE AS a
RUN echo x
FROM a
RUN echo x && choco install y
RUN ["winget", "z"]
`)
	_, err := CheckWindowsDockerfile("Dockerfile", text, "", Options{Windows: true})
	list := yamlfile.Errors(err)
	if len(list) != 2 || list[0].Pos.Line != 5 || list[1].Pos.Line != 6 || !strings.Contains(list[1].Error(), "instruction #1") {
		t.Errorf("got %v, want mistakes on lines 5 and 6", list)
	}
	args := map[string]string{"BASE": "mcr.microsoft.com/windows/servercore:1809"}
	if _, err := CheckWindowsDockerfile("Dockerfile", text, "", Options{Windows: true, BuildArgs: args}); err != nil {
		t.Errorf("on servercore: got %v", err)
	}
	for _, other := range []string{"", "RNU x", "FROM alpine\nRUN choco install\n"} {
		if _, err := CheckWindowsDockerfile("Dockerfile", []byte(other), "", Options{Windows: true}); err != nil {
			t.Errorf("%q: got %v", other, err)
		}
	}
}

func TestCheckWindowsExpandsBuildArgs(t *testing.T) {
	f, err := Parse("f", []byte("args: {B: alpine}\nbase: $B\nsteps: [{run: choco install x}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckWindows(f, nil); err != nil {
		t.Errorf("on alpine: got %v", err)
	}
	if err := CheckWindows(f, map[string]string{"B": "x/nanoserver"}); err == nil {
		t.Error("on nanoserver: got no error")
	}
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "1m 30s": 90 * time.Second, "1h30min": 90 * time.Minute, "500ms": 500 * time.Millisecond,
		" 5 sec ": 5 * time.Second, "1day": 24 * time.Hour, "1w2d": 9 * 24 * time.Hour, "1M": 2630016 * time.Second, "1y": 31557600 * time.Second,
	} {
		if got, err := parseDuration(s); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "30", "s", "1.5s", "-1s", "1x", "99999999999999999999s", "300y", "1s 2"} {
		if got, err := parseDuration(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, got)
		}
	}
}

// A daemon on Linux is refused what it cannot run, and that alone.
func TestWindowsDockerfileOnLinux(t *testing.T) {
	for _, c := range []struct {
		text, target, platform, want string
	}{
		{text: "FROM mcr.microsoft.com/windows/nanoserver:ltsc2022\nCOPY a.exe /\n"},
		{text: "FROM mcr.microsoft.com/windows/nanoserver:ltsc2022 AS w\nRUN dir\nFROM busybox AS l\nRUN true\n"},
		{text: "FROM mcr.microsoft.com/windows/nanoserver:ltsc2022 AS w\nRUN dir\nFROM busybox AS l\nRUN true\n", target: "W", want: "f:2: this builds a Windows image"},
		{text: "FROM mcr.microsoft.com/windows/servercore:ltsc2022 AS w\nRUN dir\nFROM w AS x\nFROM busybox AS l\n# check=skip=all\nCOPY --from=x /a /b\n", want: "f:2: this builds a Windows image"},
		{text: "FROM some/base\nRUN dir\n", platform: "windows/amd64", want: "f:2: this builds a Windows image"},
		{text: "FROM --platform=$TARGETPLATFORM some/base\nRUN dir\n", platform: "windows/amd64", want: "f:2: this builds a Windows image"},
		{text: "FROM --platform=linux/amd64 golang AS b\nRUN go build\nFROM some/base\nCOPY --from=b /a /a\n", platform: "windows/amd64"},
		{text: "FROM --platform=windows/amd64 scratch AS w\nFROM busybox\nRUN echo windows\n"},
		{text: "FROM --platform=windows/amd64 scratch\nCOPY a /\n", want: "cannot start from scratch"},
		{text: "FROM mcr.microsoft.com/windows/nanoserver AS a\nFROM a AS b\nRUN echo x && choco install y\n", want: "f:3: choco cannot run here"},
		{text: "windows is not a Dockerfile\n"},
	} {
		_, err := CheckWindowsDockerfile("f", []byte(c.text), c.target, Options{Platform: c.platform})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q, target %q: got %v, want %q", c.text, c.platform, c.target, err, c.want)
		}
	}
}
