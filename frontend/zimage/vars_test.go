package zimage

import (
	"strings"
	"testing"
)

func TestReplaceVars(t *testing.T) {
	vars := map[string]string{"V": "1.2", "EMPTY": "", "W": "${V}"}
	for in, want := range map[string]string{
		"a":             "a",
		"${V}":          "1.2",
		"a-${V}-b${V}":  "a-1.2-b1.2",
		"${EMPTY}x":     "x",
		"${W}":          "${V}", // not expanded again
		"${OTHER}":      "${OTHER}",
		"${V:-x}":       "${V:-x}",
		"$V":            "$V",
		"$${V}":         "$${V}",
		`\${V}`:         `\${V}`,
		`\\${V}`:        `\\1.2`,
		"$$${V}":        "$$1.2",
		"${V":           "${V",
		"${${V}}":       "${1.2}",
		"${V} \n ${V}}": "1.2 \n 1.2}",
	} {
		if got := replaceVars(in, vars); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// Whatever values hold, they are values: no keys, items or comments come of them.
func TestParseVarsKeepsTheStructure(t *testing.T) {
	const text = "base: alpine:${V}\nenv:\n  ${KEY}: ${A}\n  B: \"${A}\"\nworkdir: /${V} # ${A}\n"
	nasty := "x: y\nuser: root # not \"a' comment\n- item"
	f, err := ParseVars("ZImagefile", []byte(text), map[string]string{"V": "3.20", "KEY": "NAME", "A": nasty})
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, p := range f.Env {
		env[p.Key.Value] = p.Value.Value
	}
	if f.Base.Value != "alpine:3.20" || env["NAME"] != nasty || env["B"] != nasty || f.Workdir.Value != "/3.20" || f.User != nil {
		t.Errorf("got base %v, env %v, workdir %v, user %v", f.Base, env, f.Workdir, f.User)
	}
	// Mistakes are at the place in the file as it is written.
	_, err = ParseVars("ZImagefile", []byte("base: alpine\nexpose: ${PORT}\nnope: 1\n"), map[string]string{"PORT": "no port"})
	if err == nil || !strings.Contains(err.Error(), "ZImagefile:2:9: ") || !strings.Contains(err.Error(), "ZImagefile:3:1: ") {
		t.Errorf("got %v", err)
	}
	if _, err = ParseVars("ZImagefile", []byte("base: alpine\nexpose: ${PORT}\n"), map[string]string{"PORT": "80"}); err != nil {
		t.Errorf("a number: %v", err)
	}
}
