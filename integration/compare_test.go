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
		"image":      o.image.text(),
		"provenance": o.image.provenanceText(),
		"error":      o.errorAspect(),
		"warnings":   strings.Join(o.warnings, "\n"),
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

// compareFrontend compares the frontend with the reference.
func (c *buildCase) compareFrontend(t *testing.T, got, want outcome, inClient func() outcome) {
	t.Helper()
	c.compareAspects(t, subjectFrontend, got.aspects(), want.aspects(), func() map[string]string {
		return inClient().aspects()
	})
}

// compareAspects fails the test for every aspect in which the subject differs from the reference,
// unless the case lists the difference; and for every listed difference that is not there.
//
// BuildKit words some errors otherwise when its frontend runs in the client, where ours does. So
// what differs is held against BuildKit's frontend in the client, too; all but the image.
func (c *buildCase) compareAspects(t *testing.T, subject string, got, want map[string]string, inClient func() map[string]string) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(got)) {
		same := got[what] == want[what]
		if !same && what != "image" {
			if raceDetector { // it cannot be asked
				continue
			}
			same = got[what] == inClient()[what]
		}
		switch accepted := c.accepted(subject, what); {
		case !same && !accepted:
			t.Errorf("%s differs from the reference in %s (-reference +%s):\n%s", subject, what, subject,
				cmp.Diff(strings.Split(want[what], "\n"), strings.Split(got[what], "\n")))
		case same && accepted:
			t.Errorf("%s lists a difference of %s in %s, but there is none: remove it from %s", c.name, subject, what, caseFile)
		}
	}
}

// expect fails the test if the reference did not end as the case says.
func (c *buildCase) expect(t *testing.T, want outcome) {
	t.Helper()
	switch {
	case c.Fails == "" && want.err != nil:
		t.Errorf("reference: %s", want.errorAspect())
	case c.Fails != "" && want.err == nil:
		t.Errorf("reference: the build went well, want a failure with %q", c.Fails)
	case c.Fails != "" && !strings.Contains(want.err.Error(), c.Fails):
		t.Errorf("reference: got error %q, want one with %q", want.err, c.Fails)
	}
}
