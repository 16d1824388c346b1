package rest

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/render"
)

// compile reads the templates of good Options and tries them on samples of each
// kind. Its faults are config.FieldErrors.
func (o Options) compile(base *url.URL) (*templated, error) {
	t := &templated{batch: o.Batch, of: make(map[plant.EventKind]*sheet)}
	var errs []error
	for i := range o.Requests {
		r := &o.Requests[i]
		if r.Skip {
			continue
		}
		s, err := o.sheet(base, r, fmt.Sprintf("requests[%d]", i))
		errs = append(errs, err)
		for _, kind := range r.Kinds {
			t.of[kind] = s
		}
	}
	return t, errors.Join(errs...)
}

// sheet reads one request, which stands at path.
func (o Options) sheet(base *url.URL, r *Request, path string) (*sheet, error) {
	s := &sheet{kinds: render.NewKinds(r.Kinds...), format: r.format(), method: r.Method, base: base, header: o.header()}
	if s.method == "" {
		s.method = o.Method
	}
	s.header.Set("Accept", "application/json, */*;q=0.5")
	s.header.Del("Content-Type")
	var errs []error
	if r.When != "" {
		when, err := s.condition(r.Kinds, path+".when", r.When)
		if err != nil {
			return s, err
		}
		s.when = when
	}
	read := func(key, file string, format render.Format, text string) *render.Template {
		t, err := s.read(r.Kinds, path+key, file, format, text, int(o.MaxBody))
		errs = append(errs, err)
		return t
	}
	if r.Path != "" {
		s.path = read(".path", "", render.Path, r.Path)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		s.values = append(s.values, named{name, read(".headers."+name, "", render.Header, r.Headers[name])})
	}
	if r.hasBody() {
		key, text, err := ".body", r.Body, error(nil)
		if r.BodyFile != "" {
			key = ".body_file"
			text, err = readTemplate(path+key, string(r.BodyFile))
		}
		if err != nil {
			return s, errors.Join(append(errs, err)...)
		}
		s.body = read(key, string(r.BodyFile), s.format, text)
		s.header.Set("Content-Type", contentTypes[s.format])
		if r.ContentType != "" {
			s.header.Set("Content-Type", r.ContentType)
		}
	}
	s.steady = (s.path == nil || s.path.Steady()) && !slices.ContainsFunc(s.values, func(v named) bool { return v.value != nil && !v.value.Steady() })
	if r.List != nil {
		s.list = true
		s.begin, s.between, s.end = r.List.parts(s.format)
	}
	if err := errors.Join(errs...); err != nil {
		return s, err
	}
	return s, s.try(r.Kinds, path, int(o.MaxBody))
}

// readTemplate reads the file of a body.
func readTemplate(path, file string) (string, error) {
	info, err := os.Stat(file)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > render.Longest) {
		return "", config.Field(path, fmt.Sprintf("%s is no file of at most %d bytes", file, render.Longest), "name the file that holds the template")
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return "", config.Field(path, fmt.Sprintf("it cannot be read: %v", err), "name a readable file with the template of the body")
	}
	return string(text), nil
}

// read parses one template and tries it on each kind. In a list, too, the body of
// each event is valid alone.
func (s *sheet) read(kinds uplink.Kinds, path, file string, format render.Format, text string, most int) (*render.Template, error) {
	t, err := render.Parse(format, text, s.kinds)
	if err != nil {
		return nil, fieldOf(path, file, err)
	}
	for _, kind := range kinds {
		if err := t.Try(kind, most, s.when); err != nil {
			return t, fieldOf(path, file, err)
		}
	}
	return t, nil
}

// condition parses and tries a condition, which must let something through.
func (s *sheet) condition(kinds uplink.Kinds, path, text string) (*render.Template, error) {
	t, err := render.Parse(render.Text, text, s.kinds)
	if err != nil {
		return nil, fieldOf(path, "", err)
	}
	for _, kind := range kinds {
		if err := t.Try(kind, render.Longest, nil); err != nil {
			return nil, fieldOf(path, "", err)
		}
		e := render.Sample(kind, render.Full)
		value, err := s.kinds.Value(&e)
		if err != nil {
			return nil, fieldOf(path, "", err)
		}
		if applies, err := t.Applies(value); err != nil || !applies {
			return nil, config.Field(path, fmt.Sprintf("it leaves out a `%s` event with all that it can have", kind), "write what must be there, for example {{.data.order.number}}, or a text in {{if …}}")
		}
	}
	return t, nil
}

// fieldOf makes a fault of the config of what is wrong with a template.
func fieldOf(path, file string, err error) error {
	wrong := new(render.Error)
	if !errors.As(err, &wrong) {
		return config.Field(path, err.Error(), "write it anew")
	}
	text := wrong.Error()
	if file != "" {
		text = file + ": " + text
	}
	return config.Field(path, text, wrong.Remedy)
}

// try makes whole messages of samples of each kind, one event and two.
func (s *sheet) try(kinds uplink.Kinds, path string, most int) error {
	for _, kind := range kinds {
		for _, v := range render.Variants() {
			e := render.Sample(kind, v)
			events := []plant.Event{e, e}
			events[1].Sequence++
			for n := range events {
				if n > 0 && !s.list {
					break
				}
				f := &templated{batch: 2, of: map[plant.EventKind]*sheet{kind: s}}
				if _, err := s.message(events[:n+1], f, most, most); err != nil {
					wrong := new(render.Error)
					if !errors.As(err, &wrong) {
						return config.Field(path, err.Error(), "make the request smaller, or raise max_body")
					}
					key := path
					if s.list {
						key += ".list"
					}
					return config.Field(key, fmt.Sprintf("for %d `%s` events in one body: %v", n+1, kind, wrong), wrong.Remedy)
				}
			}
		}
	}
	return nil
}
