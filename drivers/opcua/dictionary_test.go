package opcua

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
)

// plcTypes is a dictionary as PLCs have it: names in quotes, arrays with their
// length in front, enumerations, optional members, a union, and what nobody can
// encode.
const plcTypes = `<?xml version="1.0" encoding="utf-8"?>
<opc:TypeDictionary xmlns:opc="http://opcfoundation.org/BinarySchema/" xmlns:std="http://opcfoundation.org/UA/" xmlns:tns="urn:plc" xmlns:di="urn:other" DefaultByteOrder="LittleEndian" TargetNamespace="urn:plc">
 <opc:Import Namespace="http://opcfoundation.org/UA/"/>
 <opc:EnumeratedType Name="Mode" LengthInBits="32"><opc:EnumeratedValue Name="Off" Value="0"/></opc:EnumeratedType>
 <opc:EnumeratedType Name="Short" LengthInBits="8"/>
 <opc:StructuredType Name="&quot;Axis&quot;" BaseType="std:ExtensionObject">
  <opc:Documentation>one axis</opc:Documentation>
  <opc:Field Name="Speed" TypeName="opc:Float"/>
  <opc:Field Name="Mode" TypeName="tns:Mode"/>
  <opc:Field Name="Kind" TypeName="tns:Short"/>
 </opc:StructuredType>
 <opc:StructuredType Name="Drive" BaseType="std:ExtensionObject">
  <opc:Field Name="Name" TypeName="opc:String"/>
  <opc:Field Name="NoOfAxes" TypeName="opc:Int32"/>
  <opc:Field Name="Axes" TypeName="tns:&quot;Axis&quot;" LengthField="NoOfAxes"/>
  <opc:Field Name="Limits" TypeName="std:Range"/>
  <opc:Field Name="Made" TypeName="opc:UInt32"/>
 </opc:StructuredType>
 <opc:StructuredType Name="Optional">
  <opc:Field Name="ASpecified" TypeName="opc:Bit"/><opc:Field Name="BSpecified" TypeName="opc:Bit"/><opc:Field Name="Reserved1" TypeName="opc:Bit" Length="30"/>
  <opc:Field Name="First" TypeName="opc:Byte"/>
  <opc:Field Name="A" TypeName="opc:Byte" SwitchField="ASpecified"/>
  <opc:Field Name="NoOfB" TypeName="opc:Int32" SwitchField="BSpecified"/><opc:Field Name="B" TypeName="opc:Byte" LengthField="NoOfB" SwitchField="BSpecified"/>
 </opc:StructuredType>
 <opc:StructuredType Name="Either">
  <opc:Field Name="SwitchField" TypeName="opc:UInt32"/>
  <opc:Field Name="Number" TypeName="opc:Int16" SwitchField="SwitchField" SwitchValue="1"/>
  <opc:Field Name="Text" TypeName="opc:CharArray" SwitchField="SwitchField" SwitchValue="2"/>
 </opc:StructuredType>
 <opc:StructuredType Name="Ring"><opc:Field Name="Next" TypeName="tns:Ring"/></opc:StructuredType>
 <opc:StructuredType Name="Bits"><opc:Field Name="B0" TypeName="opc:Bit"/><opc:Field Name="Rest" TypeName="opc:Bit" Length="7"/></opc:StructuredType>
 <opc:StructuredType Name="Fixed"><opc:Field Name="Eight" TypeName="opc:Byte" Length="8"/></opc:StructuredType>
 <opc:StructuredType Name="Foreign"><opc:Field Name="Id" TypeName="di:Something"/></opc:StructuredType>
 <opc:StructuredType Name="Wrong"><opc:Field Name="A" TypeName="opc:Byte" SwitchField="B"/><opc:Field Name="B" TypeName="opc:Byte"/></opc:StructuredType>
 <opc:StructuredType Name="Motorola" DefaultByteOrder="BigEndian"><opc:Field Name="A" TypeName="opc:UInt32"/></opc:StructuredType>
 <opc:StructuredType Name="HoldsMotorola"><opc:Field Name="In" TypeName="tns:Motorola"/></opc:StructuredType>
 <opc:EnumeratedType Name="Swapped" LengthInBits="32" DefaultByteOrder="BigEndian"/>
 <opc:StructuredType Name="HoldsSwapped"><opc:Field Name="In" TypeName="tns:Swapped"/></opc:StructuredType>
 <opc:StructuredType Name="Intel" DefaultByteOrder="LittleEndian"><opc:Field Name="A" TypeName="opc:UInt32"/></opc:StructuredType>
 <opc:StructuredType Name="Compared"><opc:Field Name="A" TypeName="opc:Byte"/><opc:Field Name="B" TypeName="opc:Byte" SwitchField="A" SwitchValue="3" SwitchOperand="GreaterThan"/></opc:StructuredType>
 <opc:StructuredType Name="Lost"><opc:Field Name="A" TypeName="tns:Nowhere"/></opc:StructuredType>
</opc:TypeDictionary>`

func TestDictionary(t *testing.T) {
	d, err := parseDictionary(append([]byte(plcTypes), 0))
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) []byte { return append(binary.LittleEndian.AppendUint32(nil, uint32(len(s))), s...) }
	number := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	float := func(f float64) []byte { return binary.LittleEndian.AppendUint64(nil, math.Float64bits(f)) }
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	axis := func(speed float32, mode uint32, kind byte) []byte {
		return join(number(math.Float32bits(speed)), number(mode), []byte{kind})
	}
	drive := join(text("Y1"), number(2), axis(1.5, 3, 4), axis(2.5, 0, 5), float(-1), float(1), number(4711))
	for _, c := range []struct {
		name, member string
		raw          []byte
		want         any
	}{
		{"Drive", "Name", drive, "Y1"}, {"Drive", "Made", drive, uint32(4711)}, {"Drive", "Axes[1].Speed", drive, float32(2.5)},
		{"Drive", "Axes[0].Mode", drive, int32(3)}, {"Drive", "Axes[1].Kind", drive, byte(5)}, {"Drive", "Limits.High", drive, 1.0},
		{"Optional", "First", join(number(2), []byte{7}, number(2), []byte{8, 9}), byte(7)},
		{"Optional", "A", join(number(2), []byte{7}, number(2), []byte{8, 9}), nil},
		{"Optional", "B[1]", join(number(2), []byte{7}, number(2), []byte{8, 9}), byte(9)},
		{"Optional", "A", join(number(1), []byte{7, 6}), byte(6)},
		{"Intel", "A", number(90), uint32(90)},
		{"Either", "Text", join(number(2), text("x")), "x"}, {"Either", "Number", join(number(1), []byte{5, 0}), int16(5)},
	} {
		l, err := d.layout(c.name, 0)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		o, err := l.parse(c.raw)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		steps, _ := parseSteps(c.member)
		if got, problem := pick(o, steps, layouts{}); got != c.want || problem != "" {
			t.Errorf("%s.%s: %v (%T), %s, want %v", c.name, c.member, got, got, problem, c.want)
		}
	}
	for name, want := range map[string]string{
		"Bits": "begins with 8 single bits", "Fixed": "Eight has a fixed length of 8", "Foreign": "Id is of the type di:Something of another dictionary",
		"Wrong": "whether its member A is there", "Lost": "does not have Nowhere", "Nobody": "does not have Nobody",
		"Motorola": "type Motorola in its dictionary has the high byte first", "HoldsMotorola": "type Motorola in its dictionary has the high byte first",
		"HoldsSwapped": "type Swapped in its dictionary has the high byte first", "Compared": "whether its member B is there is said in a way that OPC UA does not know",
	} {
		var unknown undescribed
		if _, err := d.layout(name, 0); !errors.As(err, &unknown) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	// One that holds itself is made, and no value of it ends well.
	l, err := d.layout("Ring", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.parse(make([]byte, 100)); err == nil {
		t.Error("a ring was taken apart")
	}
}

// What a hostile or broken server calls a dictionary costs no more than its length
// allows, and is named.
func TestHostileDictionaries(t *testing.T) {
	for name, text := range map[string]string{
		"no XML": "\x00\x01\x02", "cut off": plcTypes[:len(plcTypes)/2], "deep": strings.Repeat("<a>", 100_000), "wide": "<TypeDictionary>" + strings.Repeat("<Field/>", 100_000),
		"entity": `<!DOCTYPE x [<!ENTITY a "aaaa">]><TypeDictionary Name="&a;"/>`, "big-endian": `<TypeDictionary DefaultByteOrder="BigEndian"/>`,
		"UTF-16": `<?xml version="1.0" encoding="utf-16"?><TypeDictionary/>`,
	} {
		var unknown undescribed
		if _, err := parseDictionary([]byte(text)); !errors.As(err, &unknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
