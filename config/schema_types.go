package config

import (
	"reflect"
	"strconv"
	"strings"
	"time"
)

// scalars are the types that one value may have to who reads YAML by its rules.
// The decoder takes text as it is written, so that 0815 and on are text, too.
func scalars() []string { return []string{"string", "number", "boolean"} }

// nameSchema is unusable in the words of a schema, as far as they go: its length
// is in characters, and what is printable it does not know.
func nameSchema() map[string]any {
	return map[string]any{
		"description": nameRemedy,
		"type":        scalars(),
		"maxLength":   longestName,
		"pattern":     `^[^_$/+#\\\s]([^/+#\\]*[^/+#\\\s])?$`,
		"not":         map[string]any{"enum": []string{".", ".."}},
	}
}

// number is how the types with a unit begin.
const number = `([0-9]+(\.[0-9]*)?|\.[0-9]+)`

// ownSchema returns the schema of a type of this package that a config writes as
// one value, and what it is called; nil for another type. The patterns keep to
// what the regular expressions of all languages share.
func ownSchema(t reflect.Type) (name string, schema map[string]any) {
	switch t {
	case reflect.TypeFor[Duration]():
		return "duration", map[string]any{
			"description": "a number and a unit, for example 250ms, 5s, 1h30m or 7d",
			"type":        []string{"string", "integer"},
			"minimum":     0, "maximum": 0, // the only length that needs no unit
			"pattern": `^ *(\+?0|` + number + ` ?[dw]|\+?(` + number + ` ?(ns|us|µs|μs|ms|s|m|h) ?)+) *$`,
		}
	case reflect.TypeFor[Size]():
		return "size", map[string]any{
			"description": "a number of bytes and a unit, for example 64 MiB or 2 GiB",
			"type":        "string",
			"pattern":     `^ *` + number + ` *(` + sizeNames() + `) *$`,
		}
	case reflect.TypeFor[Rate]():
		return "rate", map[string]any{
			"description": "so many per s, min, h or d, for example 20/s or 40/min",
			"type":        "string",
			"pattern":     `^ *` + number + ` */ *(s|min|h|d) *$`,
		}
	case reflect.TypeFor[Hours]():
		const clock = ` *([01]?[0-9]|2[0-3]):[0-5][0-9] *`
		return "hours", map[string]any{
			"description": "from when to when in local time, for example 06:00-14:00 or 22:00-06:00",
			"type":        "string",
			"pattern":     `^` + clock + `-(` + clock + `| *24:00 *)$`,
		}
	case reflect.TypeFor[Days]():
		const day = `[A-Za-z]{3}`
		return "days", map[string]any{
			"description": "days of the week, for example mon-fri, or sat sun",
			"type":        "string",
			"pattern":     `^[ ,]*` + day + `(-` + day + `)?([ ,]+` + day + `(-` + day + `)?)*[ ,]*$`,
		}
	case secretType:
		return "secret", map[string]any{
			"description": "env:NAME or file:PATH, never the secret itself",
			"type":        "string",
			"pattern":     `^(env|file):.+`,
		}
	case pathType:
		return "path", map[string]any{
			"description": "the path of a file, from the folder of this config",
			"type":        "string",
			"minLength":   1,
		}
	default:
		return "", nil
	}
}

func sizeNames() string {
	names := make([]string, len(sizeUnits))
	for i, u := range sizeUnits {
		names[i] = u.name
	}
	return strings.Join(names, "|")
}

// written returns d as a person writes it, in the largest unit that it is a
// whole number of.
func (d Duration) written() string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "us"}} {
		if d.Std()%u.unit == 0 {
			return strconv.FormatInt(int64(d.Std()/u.unit), 10) + u.name
		}
	}
	return d.String()
}
