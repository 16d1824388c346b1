package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
)

// credentials is where systemd puts the credentials of a running service, which
// nobody else can see.
const credentials = "/run/credentials"

// shellVariable is how a shell names a variable in braces. Without them it
// could as well be a password that begins with a dollar sign.
var shellVariable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)

// secret resolves "env:NAME" and "file:PATH". No message shows the value,
// since what stands in the config may be the secret itself.
func (d *decoder) secret(n *node, v reflect.Value, path string, at Position) {
	if n.kind != scalarNode {
		d.wrong(n, path, at, "env:NAME or file:PATH")
		return
	}
	var s Secret
	ok := false
	switch scheme, where, _ := strings.Cut(n.text, ":"); {
	case scheme == "env" && where != "":
		s, ok = d.secretVariable(where, path, at), true
	case scheme == "file" && where != "":
		s, ok = d.secretFile(where, path, at)
	default:
		d.clearText(n.text, path, at)
	}
	if ok {
		v.Set(reflect.ValueOf(s))
	}
}

// clearText refuses what is no reference, and tells apart what is nearly one.
func (d *decoder) clearText(text, path string, at Position) {
	scheme, where, _ := strings.Cut(text, ":")
	lower := strings.ToLower(strings.TrimSpace(scheme))
	shell := shellVariable.FindStringSubmatch(text)
	switch {
	case shell != nil:
		d.fault(at, path, "a config does not fill in `"+shorten(text)+"` as a shell does", "write env:"+shell[1])
	case where != "" && (lower == "env" || lower == "file"):
		d.fault(at, path, "`"+shorten(scheme)+":` is not known", "write "+lower+":, in lower case")
	default:
		d.fault(at, path, "a secret in clear text", "write env:NAME or file:PATH, and change the secret, since it was in a file that is copied around")
	}
}

// later warns of a secret that only the gateway's own surroundings may have.
func (d *decoder) later(path string, at Position, problem, remedy string) Secret {
	d.faults = append(d.faults, Fault{Position: at, Path: join(d.s.path, path), Problem: problem, Remedy: remedy, Warning: true, Runtime: true})
	return Secret{absent: true}
}

func (d *decoder) secretVariable(name, path string, at Position) Secret {
	const remedy = "it must be there when the service starts, for example from its systemd unit"
	switch value, ok := os.LookupEnv(name); {
	case !ok:
		return d.later(path, at, "the environment variable "+shorten(name)+" is not set", remedy)
	case value == "":
		return d.later(path, at, "the environment variable "+shorten(name)+" is empty", remedy)
	default:
		return Secret{clear: value}
	}
}

func (d *decoder) secretFile(where, path string, at Position) (s Secret, ok bool) {
	name := d.absolute(where)
	clear, err := readSecret(name)
	if errors.Is(err, errEmptySecret) {
		d.fault(at, path, "the secret file "+name+" is empty", "write the secret into it")
		return Secret{}, false
	}
	if err != nil {
		var system *os.PathError
		if errors.As(err, &system) && strings.HasPrefix(filepath.ToSlash(name), credentials+"/") {
			return d.later(path, at, "the secret cannot be read: "+err.Error(), "it must be there when the service starts: LoadCredential= in its systemd unit"), true
		}
		d.fault(at, path, "the secret cannot be read: "+err.Error(), remedyOf(err, "create the file, readable by the gateway's user only"))
		return Secret{}, false
	}
	info, err := os.Stat(name)
	if err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o004 != 0 {
		d.faults = append(d.faults, Fault{
			Position: at, Path: join(d.s.path, path), Warning: true,
			Problem: "the secret file " + name + " is readable by every user", Remedy: "chmod 600 " + name,
		})
	}
	return Secret{clear: clear, file: name}, true
}

// errEmptySecret says that a secret file holds nothing.
var errEmptySecret = errors.New("it is empty")

// readSecret returns what a secret file holds, without the line end.
func readSecret(name string) (string, error) {
	const largest = 64 << 10
	switch info, err := os.Stat(name); {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a file", name)
	case info.Size() > largest:
		return "", fmt.Errorf("%s is larger than %s", name, Size(largest))
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	clear := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if clear == "" {
		return "", errEmptySecret
	}
	return clear, nil
}

// remedyOf returns what helps against a file that cannot be read: the right to read
// it if it is there, else what is given.
func remedyOf(err error, absent string) string {
	if errors.Is(err, fs.ErrPermission) {
		return "it is there, but this user may not read it: run the command as the gateway's user (sudo -u sluice) or as root, or give that user the right"
	}
	return absent
}
