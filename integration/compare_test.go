package integration

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The subjects that are held against the reference.
const (
	subjectFrontend = "frontend" // frontend/dockerfile as a drop-in for BuildKit's builder.Build
	subjectEngine   = "engine"   // the whole engine
)

// aspects splits an outcome into what is compared one by one, by name.
func (o outcome) aspects() map[string]string {
	a := map[string]string{
		"image":    o.image.text(),
		"error":    o.errorAspect(),
		"warnings": strings.Join(o.warnings, "\n"),
	}
	for name, c := range o.calls {
		a[name] = c.json + "\n" + c.text + "\n" + errorText(c.err) + "\n" + strings.Join(errorSources(c.err), "\n")
	}
	return a
}

func (o outcome) errorAspect() string {
	if o.err == nil {
		return ""
	}
	return errorText(o.err) + "\n" + strings.Join(errorSources(o.err), "\n") + "\n" + solveErrorOf(o.err)
}

// compare fails the test for every aspect in which the subject differs from the reference, unless
// the case lists the difference; and for every listed difference that is not there.
func (c *buildCase) compare(t *testing.T, subject string, got, want outcome) {
	t.Helper()
	gotAspects, wantAspects := got.aspects(), want.aspects()
	for _, what := range slices.Sorted(maps.Keys(gotAspects)) {
		diff := cmp.Diff(strings.Split(wantAspects[what], "\n"), strings.Split(gotAspects[what], "\n"))
		switch accepted := c.accepted(subject, what); {
		case diff != "" && !accepted:
			t.Errorf("%s differs from the reference in %s (-reference +%s):\n%s", subject, what, subject, diff)
		case diff == "" && accepted:
			t.Errorf("%s lists a difference of %s in %s, but there is none: remove it from %s", c.name, subject, what, caseFile)
		}
	}
}

// expect fails the test if the build did not end as the case says.
func (c *buildCase) expect(t *testing.T, who string, got outcome) {
	t.Helper()
	switch {
	case c.Fails == "" && got.err != nil:
		t.Errorf("%s: %s", who, got.errorAspect())
	case c.Fails != "" && got.err == nil:
		t.Errorf("%s: the build went well, want a failure with %q", who, c.Fails)
	case c.Fails != "" && !strings.Contains(got.err.Error(), c.Fails):
		t.Errorf("%s: got error %q, want one with %q", who, got.err, c.Fails)
	}
}
