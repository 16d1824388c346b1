package opcua

import (
	"reflect"
	"sync"

	"github.com/gopcua/opcua/ua"
)

// What the library would decode, by the numbers of the encodings. It tells only
// by trying, so each answer is kept; there are as many as the specification has
// numbers, however many a server sends.
var (
	serviceType   = remembered(trialService)
	structureType = remembered(trialStructure)
)

// remembered keeps the answers of find. Numbers are 16 bits in the specification;
// what is beyond is asked for anew.
func remembered(find func(id uint32) reflect.Type) func(id uint32) reflect.Type {
	var known sync.Map // uint32 → reflect.Type, nil for none
	return func(id uint32) reflect.Type {
		if got, ok := known.Load(id); ok {
			t, _ := got.(reflect.Type)
			return t
		}
		t := find(id)
		if id <= 0xffff {
			known.Store(id, t)
		}
		return t
	}
}

// trialService decodes a message without a body: its error leaves the type.
func trialService(id uint32) reflect.Type {
	b, err := ua.NewNumericExpandedNodeID(0, id).Encode()
	if err != nil {
		return nil
	}
	_, v, _ := ua.DecodeService(b)
	return reflect.TypeOf(v)
}

// trialStructure decodes a structure whose body is one byte.
func trialStructure(id uint32) reflect.Type {
	b, err := ua.NewNumericExpandedNodeID(0, id).Encode()
	if err != nil {
		return nil
	}
	var x ua.ExtensionObject
	_, _ = x.Decode(append(b, ua.ExtensionObjectBinary, 1, 0, 0, 0, 0))
	if _, kept := x.Value.(*body); kept {
		return nil // its bytes are only copied
	}
	return reflect.TypeOf(x.Value)
}
