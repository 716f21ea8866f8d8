package conf

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// changeable are the keys that may change while a framegate runs. README.md and framegate.yaml here name them for people; a
// test holds the README equal.
var changeable = []string{
	"listeners[].max_connections", "listeners[].max_calls",
	"admin.token",
	"routes.file", "routes.reload_interval",
	"services.allow",
	"limits.max_message_bytes", "limits.max_health_watches",
	"drain.delay", "drain.timeout", "drain.endpoint_timeout",
	"log.level", "log.format",
	"access_log.path", "access_log.sample", "access_log.errors",
}

// LoadAgain is Load for a file that is in force: one that says nothing is an error, since it may be about to be written, and
// so is what is no file, which might have its reader wait for ever.
func LoadAgain(path string) (*Config, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("configuration file %s: it is %s, want a regular file", path, info.Mode().Type())
	}
	return load(path, func(data []byte) (*Config, error) {
		var said map[string]any
		if err := yaml.Unmarshal(data, &said); err == nil && len(said) == 0 {
			return nil, errors.New("it says nothing, want a configuration")
		}
		return Parse(data)
	})
}

// Difference is a key that has another value in a configuration that was read again. Secrets are hidden.
type Difference struct {
	Key     string // such as listeners[0].max_calls, by the order of the configuration in force
	InForce string
	Read    string
}

// Reload returns c with the values that next, which is valid, has of the keys that may change while a framegate runs. It
// says which of them differ, and which other keys do: those stay as they are in c until a restart. Listeners go by their
// names. The result may be invalid, where what changes does not go with what stays. c and next stay as they are.
//
// With an error there is no result: a file that was cut, or is being written, does not open what is closed. What guards, or
// has the routes, is taken away by a restart only.
func (c *Config) Reload(next *Config) (result *Config, changed, fixed []Difference, err error) {
	if err := c.taken(next); err != nil {
		return nil, nil, nil, err
	}
	names, read := slices.Sorted(slices.Values(c.ListenerNames())), slices.Sorted(slices.Values(next.ListenerNames()))
	if !slices.Equal(names, read) {
		fixed = append(fixed, Difference{Key: "listeners", InForce: strings.Join(names, ", "), Read: strings.Join(read, ", ")})
	}
	next = next.withListenersOf(c)
	result = new(*c)
	result.Listeners = slices.Clone(c.Listeners)
	d := differences{note: func(key string, inForce, read reflect.Value) {
		diff := Difference{Key: key, InForce: fmt.Sprint(inForce), Read: fmt.Sprint(read)}
		if isChangeable(key) {
			changed = append(changed, diff)
		} else {
			fixed = append(fixed, diff)
		}
	}}
	d.take("", valueOf(result), valueOf(next), valueOf(c.Redacted()), valueOf(next.Redacted()))
	return result, changed, fixed, nil
}

// taken says what next takes away that a reload does not.
func (c *Config) taken(next *Config) error {
	var errs []error
	for _, k := range []struct {
		key  string
		gone bool
	}{
		{"admin.token", c.Admin.Token != "" && next.Admin.Token == ""},
		{"routes.file", c.Routes.File != "" && next.Routes.File == ""},
		{"services.allow", !slices.Equal(c.Services.Allow, Default().Services.Allow) && slices.Equal(next.Services.Allow, Default().Services.Allow)},
	} {
		if k.gone {
			errs = append(errs, fmt.Errorf("%s: back to its default, want a value, or a restart to take it away", k.key))
		}
	}
	return errors.Join(errs...)
}

func valueOf(c *Config) reflect.Value { return reflect.ValueOf(c).Elem() }

// withListenersOf returns a copy of c with the listeners of other, in its order, each as c has that of its name.
func (c *Config) withListenersOf(other *Config) *Config {
	r := *c
	r.Listeners = slices.Clone(other.Listeners)
	for i := range r.Listeners {
		named := func(l Listener) bool { return l.Name == r.Listeners[i].Name }
		if j := slices.IndexFunc(c.Listeners, named); j >= 0 {
			r.Listeners[i] = c.Listeners[j]
		}
	}
	return &r
}

var index = regexp.MustCompile(`\[\d+\]`)

func isChangeable(key string) bool {
	return slices.Contains(changeable, index.ReplaceAllString(key, "[]"))
}

// differences goes through two configurations key by key.
type differences struct {
	note func(key string, inForce, read reflect.Value)
}

// take notes where src differs from dst, and gives dst what may change. shown and shownSrc are the same two without
// secrets.
func (d differences) take(key string, dst, src, shown, shownSrc reflect.Value) {
	switch {
	case dst.Kind() == reflect.Struct:
		for i := range dst.NumField() {
			below, _, _ := strings.Cut(dst.Type().Field(i).Tag.Get("yaml"), ",")
			if key != "" {
				below = key + "." + below
			}
			d.take(below, dst.Field(i), src.Field(i), shown.Field(i), shownSrc.Field(i))
		}
	case dst.Kind() == reflect.Slice && dst.Type().Elem().Kind() == reflect.Struct && dst.Len() == src.Len():
		for i := range dst.Len() {
			d.take(fmt.Sprintf("%s[%d]", key, i), dst.Index(i), src.Index(i), shown.Index(i), shownSrc.Index(i))
		}
	case !same(dst, src):
		d.note(key, shown, shownSrc)
		if isChangeable(key) {
			dst.Set(src)
		}
	}
}

// same reports whether two values of one type are equal; an empty list or map equals none.
func same(a, b reflect.Value) bool {
	if k := a.Kind(); (k == reflect.Slice || k == reflect.Map) && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}
