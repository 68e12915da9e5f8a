package progress

import "io"

// plainWriter cuts off what BuildKit's plain view adds at its end: the output of
// failed steps once more. It was printed in full before, and the report of the
// failure follows. That part begins with a rule, which the view writes by itself;
// every line of a step's output begins with the step's number.
type plainWriter struct {
	w   io.Writer
	cut bool
}

func (p *plainWriter) Write(b []byte) (int, error) {
	if p.cut || string(b) == "------\n" {
		p.cut = true
		return len(b), nil
	}
	return p.w.Write(b)
}
