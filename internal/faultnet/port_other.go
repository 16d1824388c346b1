//go:build !linux

package faultnet

import "errors"

func bindPort([4]byte) (*Port, error) { return nil, errors.ErrUnsupported }
