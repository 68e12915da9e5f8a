package zimage

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseDuration reads lengths of time as ZImagefiles spell them: whole numbers with units, with or
// without blanks between, like "1m 30s", "5min" or "500ms". Months and years have their mean
// length.
func parseDuration(s string) (time.Duration, error) {
	rest := strings.TrimSpace(s)
	if rest == "" {
		return 0, errors.New("it is empty, expected for example 30s")
	}
	if rest == "0" {
		return 0, nil
	}
	var total time.Duration
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		number, after := rest[:digits], strings.TrimLeft(rest[digits:], " \t")
		letters := len(after) - len(strings.TrimLeftFunc(after, isLetter))
		name := after[:letters]
		rest = strings.TrimLeft(after[letters:], " \t")
		if number == "" {
			return 0, fmt.Errorf("expected a number before %q", after)
		}
		unit, ok := unitLength(name)
		switch {
		case name == "":
			return 0, fmt.Errorf("%s needs a unit, for example %ss", number, number)
		case !ok:
			return 0, fmt.Errorf("unknown unit %q, known are ms, s, min, h and days", name)
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n > int64((1<<63-1-total)/unit) {
			return 0, errors.New("it is too long")
		}
		total += time.Duration(n) * unit
	}
	return total, nil
}

func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == 'µ' }

func unitLength(name string) (time.Duration, bool) {
	const day = 24 * time.Hour
	switch name {
	case "nanos", "nsec", "ns":
		return time.Nanosecond, true
	case "usec", "us", "µs":
		return time.Microsecond, true
	case "millis", "msec", "ms":
		return time.Millisecond, true
	case "seconds", "second", "secs", "sec", "s":
		return time.Second, true
	case "minutes", "minute", "mins", "min", "m":
		return time.Minute, true
	case "hours", "hour", "hrs", "hr", "h":
		return time.Hour, true
	case "days", "day", "d":
		return day, true
	case "weeks", "week", "wks", "wk", "w":
		return 7 * day, true
	case "months", "month", "M":
		return 2630016 * time.Second, true // 30.44 days
	case "years", "year", "yrs", "yr", "y":
		return 31557600 * time.Second, true // 365.25 days
	}
	return 0, false
}
