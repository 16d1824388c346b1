package modbus

import "strings"

func replace(text, addr string) string { return strings.ReplaceAll(text, "ENDPOINT", addr) }
