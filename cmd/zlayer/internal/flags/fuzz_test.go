package flags

import (
	"slices"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
)

// message fails the test unless an error, if any, is one line that says something.
func message(t *testing.T, in string, err error) bool {
	t.Helper()
	if err == nil {
		return true
	}
	if m := err.Error(); m == "" || strings.HasPrefix(m, "failed") {
		t.Errorf("%q: useless message %q", in, m)
	}
	return false
}

func FuzzParseOutput(f *testing.F) {
	for _, s := range []string{"dir", "-", "type=oci,dest=x", "type=registry", "type=docker", `type=image,"name=a,b"`, "type=local,dest=x,a=b", "type=cacheonly", "type=oci,tar=false"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOutput(s)
		if !message(t, s, err) {
			return
		}
		switch o.Type {
		case engine.OutputStore, engine.OutputImage, engine.OutputCacheOnly:
			if o.Dest != "" || o.Stdout {
				t.Errorf("%q: %s with a destination", s, o.Type)
			}
		case engine.OutputLocal:
			if o.Dest == "" || o.Stdout {
				t.Errorf("%q: local without a directory", s)
			}
		case engine.OutputOCI, engine.OutputTar, engine.OutputDocker:
			if !o.Load && o.Stdout == (o.Dest != "") {
				t.Errorf("%q: dest %q, stdout %v", s, o.Dest, o.Stdout)
			}
		default:
			t.Errorf("%q: type %q", s, o.Type)
		}
		if o.Attrs["type"] != "" || o.Attrs["dest"] != "" {
			t.Errorf("%q: attributes %v", s, o.Attrs)
		}
	})
}

func FuzzParseSecret(f *testing.F) {
	for _, s := range []string{"id=a,src=b", "id=a,env=b", "id=a", "type=env,id=x", "type=file,id=x,source=y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sec, err := ParseSecret(s, env("a", "1"))
		if message(t, s, err) && (sec.ID == "" || (sec.File == "") == (sec.Env == "")) {
			t.Errorf("%q: %+v", s, sec)
		}
	})
}

func FuzzParseSSH(f *testing.F) {
	f.Add("default")
	f.Add("a=b,c")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseSSH(s, env("SSH_AUTH_SOCK", "/s"))
		if message(t, s, err) && (a.ID == "" || slices.Contains(a.Paths, "")) {
			t.Errorf("%q: %+v", s, a)
		}
	})
}

func FuzzParseCache(f *testing.F) {
	for _, s := range []string{"a/b:c", "type=registry,ref=x", "type=local,src=x,dest=y", "type=gha", "type=s3,bucket=b", "type=inline,mode=max"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		look := env("ACTIONS_RUNTIME_TOKEN", "t")
		from, err := ParseCacheFrom(s, look)
		if message(t, s, err) && !slices.Contains(cacheSources, from.Type) {
			t.Errorf("%q: %+v", s, from)
		}
		to, err := ParseCacheTo(s, look)
		if message(t, s, err) && !slices.Contains(cacheTargets, to.Type) {
			t.Errorf("%q: %+v", s, to)
		}
	})
}

// What an attestation's attributes are written as must read as the same.
func FuzzParseAttests(f *testing.F) {
	for _, s := range []string{"type=sbom", "provenance,mode=max", `type=sbom,"generator=a,b"`, "type=provenance,disabled=true"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseAttests([]string{s}, "", "")
		if !message(t, s, err) {
			return
		}
		for typ, attrs := range got {
			if attrs == "" {
				continue
			}
			again, err := ParseAttests([]string{"type=" + typ + "," + attrs}, "", "")
			if err != nil || again[typ] != attrs {
				t.Errorf("%q gave %q, which reads as %q, %v", s, attrs, again[typ], err)
			}
		}
	})
}

func FuzzParseAnnotation(f *testing.F) {
	for _, s := range []string{"a=b", "index:a=b", "manifest[linux/amd64],index:a=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, v, err := ParseAnnotation(s)
		if message(t, s, err) && k+"="+v != s {
			t.Errorf("%q: %q, %q", s, k, v)
		}
	})
}

func FuzzParseAddHost(f *testing.F) {
	for _, s := range []string{"a:1.2.3.4", "a=::1", "a:[::1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseAddHost(s)
		if !message(t, s, err) {
			return
		}
		if again, err := ParseAddHost(got); err != nil || again != got {
			t.Errorf("%q gave %q, which reads as %q, %v", s, got, again, err)
		}
	})
}

func FuzzParseUlimit(f *testing.F) {
	f.Add("nofile=1:2")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseUlimit(s)
		if !message(t, s, err) {
			return
		}
		if again, err := ParseUlimit(got); err != nil || again != got {
			t.Errorf("%q gave %q, which reads as %q, %v", s, got, again, err)
		}
	})
}

func FuzzParseCall(f *testing.F) {
	f.Add("check,format=json")
	f.Fuzz(func(t *testing.T, s string) {
		_, err := ParseCall(s)
		message(t, s, err)
	})
}
