package pipeline

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/frontend/yamlfile/yamlfiletest"
)

var update = flag.Bool("update", false, "rewrite the expected plans and errors")

// goldenCase is a folder of testdata: a pipeline with the plan that comes of it, or with the mistakes
// that it has. options.json has the options, and the environment.
type goldenCase struct {
	name, dir, file string
	text            []byte
	opt             Options
}

func goldenCases(t testing.TB) []goldenCase {
	t.Helper()
	var cases []goldenCase
	for _, dir := range yamlfiletest.Folders(t, "ZPipeline.yaml", 20) {
		c := goldenCase{dir: dir, name: filepath.Base(dir), file: filepath.Join(dir, "ZPipeline.yaml")}
		var opt struct {
			Options
			Env map[string]string
		}
		c.text = yamlfiletest.Read(t, c.file, &opt)
		c.opt = opt.Options
		c.opt.File = c.file
		c.opt.LookupEnv = func(name string) (string, bool) { v, ok := opt.Env[name]; return v, ok }
		cases = append(cases, c)
	}
	return cases
}

func TestGolden(t *testing.T) {
	for _, c := range goldenCases(t) {
		t.Run(c.name, func(t *testing.T) {
			dir, err := filepath.Abs(c.dir)
			if err != nil {
				t.Fatal(err)
			}
			// what the working directory resolves shows as /WORK, what the pipeline's does as /DIR
			shown := strings.NewReplacer(dir, "/DIR", filepath.Dir(filepath.Dir(dir)), "/WORK", c.dir+"/", "")
			plan, mistakes := "", ""
			p, err := Load(c.opt)
			if err != nil {
				mistakes = err.Error() + "\n"
				checkPlaces(t, err, c.opt.File)
			} else {
				plan = string(p.JSON())
				checkPlan(t, p)
				for _, w := range p.Warnings {
					mistakes += "warning: " + w.Error() + "\n"
				}
			}
			golden(t, filepath.Join(c.dir, "plan.json"), shown.Replace(plan))
			golden(t, filepath.Join(c.dir, "error.txt"), shown.Replace(mistakes))
			if strings.HasPrefix(c.name, "bad-") != (err != nil) {
				t.Errorf("got error %v", err)
			}
		})
	}
}

// golden compares with a file, which is absent where nothing is expected.
func golden(t *testing.T, file, got string) {
	t.Helper()
	yamlfiletest.Golden(t, *update, file, got)
}

// checkPlaces checks that mistakes have places: in a file, with its text, or in an option.
func checkPlaces(t testing.TB, err error, file string) {
	t.Helper()
	for _, e := range yamlfile.Errors(err) {
		if strings.HasPrefix(e.Pos.File, "--") {
			continue
		}
		if e.Pos.Line < 1 || e.Pos.Line > 1+strings.Count(string(e.Source), "\n") {
			t.Errorf("%v: no place in a file of %d bytes", e, len(e.Source))
		}
		if e.Pos.File == "" {
			t.Errorf("%v: in no file (asked for %s)", e, file)
		}
	}
}

// checkPlan checks what holds of all plans.
func checkPlan(t testing.TB, p *Plan) {
	t.Helper()
	var names []string
	seen := map[string]bool{}
	level := map[string]int{}
	for n, l := range p.Levels {
		for _, name := range l {
			level[name] = n
		}
	}
	for _, i := range p.Images {
		for _, d := range i.DependsOn {
			if !seen[d] {
				t.Errorf("%s comes before %s, which it needs", i.Name, d)
			}
			if level[d] >= level[i.Name] {
				t.Errorf("%s is on level %d, %s, which it needs, on %d", i.Name, level[i.Name], d, level[d])
			}
		}
		seen[i.Name] = true
		names = append(names, i.Name)
		if _, ok := level[i.Name]; !ok {
			t.Errorf("%s is on no level", i.Name)
		}
		if !filepath.IsAbs(i.Context) && !remote(i.Context) {
			t.Errorf("%s: the context %s is not absolute", i.Name, i.Context)
		}
		for _, field := range []string{"context", "tags.0", "nothing.at.all"} {
			if i.At(field).IsZero() {
				t.Errorf("%s: %s has no place", i.Name, field)
			}
		}
	}
	for _, i := range p.Rest {
		if seen[i.Name] {
			t.Errorf("%s is in the plan and in the rest", i.Name)
		}
		names = append(names, i.Name)
	}
	taken := map[string]string{}
	for _, name := range names {
		for _, n := range p.Image(name).Names {
			if taken[n] != "" {
				t.Errorf("%s and %s are both called %s", taken[n], name, n)
			}
			taken[n] = name
		}
	}
}
