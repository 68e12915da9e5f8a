package main

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
	"github.com/zlayer-dev/zlayer/engine"
)

// junitSuite is the form that CI systems read. What steps have printed is not in it:
// a step may print anything.
type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Skipped *junitMessage `xml:"skipped"`
	Output  string        `xml:"system-out,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes one test case an image.
func writeJUnit(path string, res *engine.BatchResult) error {
	if path == "" {
		return nil
	}
	s := junitSuite{
		Name: "zlayer pipeline", Tests: len(res.Images), Time: fmt.Sprintf("%.3f", res.Duration.Seconds()),
		Failures: res.Count(engine.BatchFailed), Skipped: res.Count(engine.BatchSkipped),
	}
	for _, i := range res.Images {
		c := junitCase{Name: i.Name, Class: "images", Time: fmt.Sprintf("%.3f", i.Duration.Seconds())}
		switch {
		case i.State == engine.BatchFailed && i.Err != nil:
			text := progress.Lines(i.Err.Error())
			c.Failure = &junitMessage{Message: firstLine(text), Text: text}
		case i.State == engine.BatchSkipped:
			c.Skipped = &junitMessage{Message: "because of " + because(i)}
		case i.Result != nil:
			c.Output = string(i.State) + " " + i.Result.Digest.String()
		}
		s.Cases = append(s.Cases, c)
	}
	text, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return writeFile(path, append([]byte(xml.Header), append(text, '\n')...))
}

// firstLine is what a message begins with.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
