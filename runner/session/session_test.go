package session

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"mcpserver-operator/runner/rpc"
)

func TestAnIDCarriesItsRecord(t *testing.T) {
	for _, version := range append([]string{""}, rpc.Legacy...) {
		record := New(65535, 1<<31)
		record.Version, record.Capabilities = version, 0b1011
		got, err := Parse(record.ID())
		if err != nil || got != record {
			t.Errorf("got %+v, %v, want %+v", got, err, record)
		}
		if !regexp.MustCompile(`^[A-Za-z0-9-]{1,128}$`).MatchString(record.ID()) {
			t.Errorf("a gateway may refuse the id %q", record.ID())
		}
	}
}

// TestTheIDsOfAllVersionsAreRead: pods of two versions of the runner serve the same sessions. The ids here must stay as they are.
func TestTheIDsOfAllVersionsAreRead(t *testing.T) {
	random := [16]byte{0xa, 0xb, 0xc, 0xd, 0xe, 0xf, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xff}
	for id, want := range map[string]Record{
		"042000ram4to000000igk2oc1k70u0820c20a1g7104vu": {Ordinal: 3, Start: 1790000000, Version: rpc.Polling, Capabilities: 0b100101, Random: random},
		"040vvvo0000020000000k2oc1k70u0820c20a1g7104vu": {Ordinal: 65535, Start: 1, Version: rpc.HTTPWithSSE, Random: random},
		"041g003am4to10000000k2oc1k70u0820c20a1g7104vu": {Ordinal: 0, Start: 1790000000, Version: rpc.Elicitation, Capabilities: 1 << 31, Random: random}, // a capability of a later version
	} {
		if got, err := Parse(id); err != nil || got != want || want.ID() != id {
			t.Errorf("%s is %+v, %v, want %+v with the id %s", id, got, err, want, want.ID())
		}
	}
}

func TestTwoSessionsHaveDifferentIDs(t *testing.T) {
	if a, b := New(0, 1).ID(), New(0, 1).ID(); a == b {
		t.Error("they are equal")
	}
}

func TestWhatIsNoIDIsRefused(t *testing.T) {
	valid := New(1, 2).ID()
	for _, id := range []string{"", "a", valid + "0", valid[1:], strings.ToUpper(valid), "v" + valid[1:], valid[:len(valid)-1] + "z", strings.Repeat("-", len(valid)), valid[:9] + "\n" + valid[10:]} {
		if got, err := Parse(id); !errors.Is(err, ErrInvalidID) {
			t.Errorf("%q is %+v, %v", id, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(New(3, 4).ID())
	f.Add("0")
	f.Fuzz(func(t *testing.T, id string) {
		record, err := Parse(id)
		if err == nil && record.ID() != id {
			t.Errorf("%q and %q are the same session", id, record.ID())
		}
	})
}

func TestCapabilitiesSurviveInAnID(t *testing.T) {
	for in, want := range map[string]string{
		`{}`: `{}`,
		`{"roots":{"listChanged":true},"sampling":{}}`:                `{"roots":{"listChanged":true},"sampling":{}}`,
		`{"roots":{"listChanged":false}}`:                             `{"roots":{}}`,
		`{"elicitation":{"form":{},"url":{}},"experimental":{"x":1}}`: `{"elicitation":{"form":{},"url":{}}}`,
		`{"sampling":null}`:                                           `{}`,
		`[1]`:                                                         `{}`,
		``:                                                            `{}`,
	} {
		got, err := CapabilitiesOf([]byte(in)).JSON()
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", in, got, err, want)
		}
	}
}

// clock is a clock that stands still.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func newTable(most int) (*Table[string], *clock) {
	c := &clock{time.Unix(1, 0)}
	return NewTable[string](most, time.Minute, c.now), c
}

// open opens a session. It fails with ErrFull.
func open(table *Table[string], id, s string) error {
	add, _, err := table.Reserve()
	if err == nil {
		add(id, s)
	}
	return err
}

func TestATableIsFull(t *testing.T) {
	table, _ := newTable(1)
	if err := open(table, "a", "A"); err != nil {
		t.Fatal(err)
	}
	if err := open(table, "b", "B"); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	table.Drop("a")
	if err := open(table, "b", "B"); err != nil {
		t.Errorf("the place of a dropped session is not free: %v", err)
	}
}

func TestAReservedPlaceIsTaken(t *testing.T) {
	table, _ := newTable(1)
	add, release, err := table.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := table.Reserve(); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	add("a", "A")
	release() // has no effect
	if err := open(table, "b", "B"); !errors.Is(err, ErrFull) || table.State("a") != Live {
		t.Errorf("got %v", err)
	}
	table.Drop("a")
	_, release, err = table.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	release()
	if err := open(table, "b", "B"); err != nil {
		t.Errorf("a released place is not free: %v", err)
	}
}

func TestASessionInUseIsNotIdle(t *testing.T) {
	table, clock := newTable(9)
	_ = open(table, "used", "used")
	_ = open(table, "idle", "idle")
	_, done, _ := table.Use("used")
	clock.Time = clock.Add(time.Minute)
	if idle := table.EndIdle(); len(idle) != 1 || idle[0] != "idle" {
		t.Errorf("idle are %v", idle)
	}
	done()
	done() // has no further effect
	clock.Time = clock.Add(59 * time.Second)
	if idle := table.EndIdle(); len(idle) != 0 {
		t.Errorf("idle are %v, less than a minute after the use", idle)
	}
	clock.Time = clock.Add(time.Second)
	if idle := table.EndIdle(); len(idle) != 1 {
		t.Errorf("idle are %v", idle)
	}
	if state := table.State("idle"); state != Ended {
		t.Errorf("the state of an idle session is %v", state)
	}
}

func TestABusySessionIsNotIdle(t *testing.T) {
	table, clock := newTable(9)
	_ = open(table, "busy", "busy")
	_ = open(table, "idle", "idle")
	clock.Time = clock.Add(time.Minute)
	isBusy := func(s string) bool { return s == "busy" }
	if idle := table.EndIdle(isBusy); len(idle) != 1 || idle[0] != "idle" {
		t.Errorf("idle are %v", idle)
	}
	if unused := table.DropUnused(isBusy); len(unused) != 0 {
		t.Errorf("unused are %v", unused)
	}
	if unused := table.DropUnused(); len(unused) != 1 {
		t.Errorf("unused are %v", unused)
	}
}

func TestAnEndedSessionIsRememberedAndADroppedOneIsNot(t *testing.T) {
	table, _ := newTable(9)
	_ = open(table, "ended", "E")
	_ = open(table, "dropped", "D")
	if s, wasLive := table.End("ended"); s != "E" || !wasLive {
		t.Errorf("got %q, %t", s, wasLive)
	}
	table.Drop("dropped")
	table.End("elsewhere") // another pod has told
	for id, want := range map[string]State{"ended": Ended, "dropped": Absent, "elsewhere": Ended, "unknown": Absent} {
		if _, _, state := table.Use(id); state != want {
			t.Errorf("the state of %s is %v, want %v", id, state, want)
		}
	}
}

func TestTheMemoryOfEndedSessionsIsBounded(t *testing.T) {
	table, _ := newTable(1)
	for i := range mostEnded + 1 {
		table.End(New(0, uint32(i)).ID())
	}
	table.End("last")
	if len(table.ended) != mostEnded || table.State("last") != Ended {
		t.Errorf("%d sessions are remembered", len(table.ended))
	}
}
