package main

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// A property is what SQS calls a message attribute: a name, a type and a value.
//
// Format: in the Attributes of a spool.Message,
//
//	NAME       the value: text, or the bytes of a Binary
//	NAME:type  the data type; absent when it is String
//	:NAME      a system attribute of the sender (AWSTraceHeader, MessageGroupId)
//
// No name of SQS has a colon. So a program that embeds the spool sees values under their names, and what it sends
// without a type comes out as a String, or as Binary where it is not UTF-8.
type property struct {
	name, dataType, value string
}

const (
	typeString = "String"
	typeNumber = "Number"
	typeBinary = "Binary"

	typeMark = ":type" // follows the name
	ownMark  = ":"     // begins the name of a system attribute
)

const (
	maxProperties   = 10
	maxPropertyName = 256 // bytes of a name, or of a data type
)

func (p property) binary() bool { return baseType(p.dataType) == typeBinary }

// baseType is a data type without the label of its own that a sender may add: Number for Number.float.
func baseType(dataType string) string {
	base, _, _ := strings.Cut(dataType, ".")
	return base
}

// A propertyValue is a property's value on the wire.
type propertyValue struct {
	DataType         string
	StringValue      *string  `json:",omitempty"`
	BinaryValue      []byte   `json:",omitempty"`
	StringListValues []string `json:",omitempty"`
	BinaryListValues [][]byte `json:",omitempty"`
}

var (
	propertyName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
	numberText   = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$`)
)

// parseProperties checks what a sender wants to go with a message.
func parseProperties(values map[string]propertyValue) ([]property, error) {
	if len(values) > maxProperties {
		return nil, refuse("InvalidParameterValue", "the message has %d attributes, limit %d", len(values), maxProperties)
	}
	var ps []property
	for name, v := range values {
		if err := checkPropertyName(name); err != nil {
			return nil, err
		}
		p, err := v.property(name)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

func checkPropertyName(name string) error {
	small := strings.ToLower(name)
	if len(name) > maxPropertyName || !propertyName.MatchString(name) || strings.HasPrefix(small, "aws.") || strings.HasPrefix(small, "amazon.") {
		return refuse("InvalidParameterValue", "%q is no name of a message attribute", clip(name))
	}
	return nil
}

func (v propertyValue) property(name string) (property, error) {
	p := property{name: name, dataType: v.DataType}
	bad := func(why string) (property, error) {
		return property{}, refuse("InvalidParameterValue", "the message attribute %s %s", name, why)
	}
	base := baseType(v.DataType)
	switch {
	case len(v.DataType) > maxPropertyName || base != typeString && base != typeNumber && base != typeBinary:
		return bad("has a DataType that is not String, Number or Binary")
	case len(v.StringListValues) > 0 || len(v.BinaryListValues) > 0:
		return bad("has a list of values, which SQS does not have yet")
	case base == typeBinary && (len(v.BinaryValue) == 0 || v.StringValue != nil):
		return bad("is Binary and needs a BinaryValue and no other")
	case base != typeBinary && (v.StringValue == nil || *v.StringValue == "" || len(v.BinaryValue) > 0):
		return bad("needs a StringValue and no other")
	case base == typeBinary:
		p.value = string(v.BinaryValue)
		return p, nil
	}
	p.value = *v.StringValue
	if !validText(p.value) {
		return property{}, badText("the message attribute " + name)
	}
	if base == typeNumber && !numberText.MatchString(p.value) {
		return bad("is no number")
	}
	return p, nil
}

// wire is p as it is sent to clients.
func (p property) wire() propertyValue {
	if p.binary() {
		return propertyValue{DataType: p.dataType, BinaryValue: []byte(p.value)}
	}
	return propertyValue{DataType: p.dataType, StringValue: &p.value}
}

// store writes ps and the system attributes as a message keeps them; nil when there are none.
func store(ps, own []property) map[string]string {
	if len(ps)+len(own) == 0 {
		return nil
	}
	stored := make(map[string]string, 2*len(ps)+len(own))
	for _, p := range ps {
		stored[p.name] = p.value
		if p.dataType != typeString {
			stored[p.name+typeMark] = p.dataType
		}
	}
	for _, p := range own {
		stored[ownMark+p.name] = p.value
	}
	return stored
}

// load reads the properties that a message keeps and that wanted says yes to.
func load(stored map[string]string, wanted func(name string) bool) []property {
	var ps []property
	for name, value := range stored {
		if isMark(stored, name) || !utf8.ValidString(name) || !wanted(name) {
			continue
		}
		p := property{name, typeString, value}
		if !utf8.ValidString(value) {
			p.dataType = typeBinary
		}
		switch t := stored[name+typeMark]; baseType(t) {
		case typeBinary:
			p.dataType = t
		case typeString, typeNumber:
			if p.dataType != typeBinary {
				p.dataType = t
			}
		}
		ps = append(ps, p)
	}
	return ps
}

// isMark tells whether name is not a property's.
func isMark(stored map[string]string, name string) bool {
	if base, ok := strings.CutSuffix(name, typeMark); ok {
		if _, ok := stored[base]; ok {
			return true
		}
	}
	return strings.HasPrefix(name, ownMark)
}

// wantedProperties reads MessageAttributeNames: names, "All" or ".*" for all, "foo.*" for what begins with foo.
func wantedProperties(names []string) func(name string) bool {
	exact := map[string]bool{} // Bound: the request's size
	var prefixes []string
	for _, name := range names {
		prefix, ok := strings.CutSuffix(name, ".*")
		switch {
		case name == allAttributes:
			prefixes = append(prefixes, "")
		case ok:
			prefixes = append(prefixes, prefix)
		default:
			exact[name] = true
		}
	}
	return func(name string) bool {
		if exact[name] {
			return true
		}
		for _, prefix := range prefixes {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return false
	}
}
