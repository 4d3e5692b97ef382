package main

// A row is one line of the programme.
type row struct {
	name    string
	pkg     string
	test    string   // of go test -run
	ci      []string // arguments of one campaign of torture-ci
	full    []string // and of one of torture
	most    int64    // torture goes on until so many operations, or crashes, or campaigns, have been recorded
	of      string   // which of them
	control []string // arguments of the run without the guard, which must fail; nil: there is none
	proof   string   // instead of a control: what shows that the harness bites
	seed    string   // name of the flag
	counts  counts   // where the numbers stand in what the test prints
	fuzz    bool     // every fuzz target; in full each of them is a campaign
	beside  bool     // torture-ci runs it beside the rows that follow
	absent  string   // why the row is not there
}

// counts are regular expressions with one group.
type counts struct{ operations, crashes, faults string }

var rows = []row{
	{name: "model", pkg: ".", test: "^TestModel", ci: []string{"-spool.model.steps=170000"}, full: []string{"-spool.model.steps=1000000"},
		most: 10_000_000, of: "operations", control: []string{"-spool.model.steps=20000", "-spool.model.wrong"}, seed: "spool.model.seed",
		counts: counts{operations: `(\d+) steps in`}},
	{name: "simulation", pkg: ".", test: "^TestSimulation$", ci: []string{"-spool.sim.years=1"}, full: []string{"-spool.sim.years=5"},
		most: 200_000, of: "crashes", control: []string{"-spool.sim.seeds=10", "-spool.sim.lie"}, seed: "spool.sim.seed",
		counts: counts{`: (\d+) operations`, `(\d+) crashes`, `(\d+) faults`}},
	{name: "history", pkg: "./internal/history", test: ".", ci: []string{"-history.seeds=2200"}, full: []string{"-history.seeds=20000"},
		most: 50_000_000, of: "operations", seed: "history.seed", proof: "all mutants caught",
		counts: counts{operations: `Ops:(\d+)`}},
	{name: "real history", pkg: ".", test: "^TestHistory$", ci: []string{"-spool.history.steps=8000"}, full: []string{"-spool.history.steps=12000", "-spool.history.seeds=20"},
		most: 5_000_000, of: "operations", control: []string{"-spool.history.control"}, seed: "spool.history.seed",
		counts: counts{operations: `(\d+) operations, \d+ messages`}},
	{name: "kill", pkg: ".", test: "^TestKill$|^TestStepKill$|^TestRepairKill$|^TestCleanKill$", ci: []string{"-spool.kill.cycles=75", "-spool.kill.steps=1"},
		full: []string{"-spool.kill.cycles=500", "-spool.kill.steps=20"},
		most: 10_000, of: "crashes", control: []string{"-spool.kill.cycles=20", "-spool.kill.control"}, seed: "spool.kill.seed",
		counts: counts{`(\d+) calls acknowledged`, `(\d+) kills`, ""}},
	{name: "power", pkg: ".", test: "^TestPower$", ci: []string{"-spool.power.cycles=100"}, full: []string{"-spool.power.cycles=200"},
		most: 2000, of: "crashes", control: []string{"-spool.power.cycles=30", "-spool.power.control"}, seed: "spool.power.seed",
		counts: counts{`(\d+) calls acknowledged`, `(\d+) power losses`, ""}},
	{name: "io errors", pkg: ".", test: "^TestInject$", ci: []string{"-spool.inject.most=15"}, full: []string{"-spool.inject.most=0", "-spool.inject.script=0"},
		most: 1, of: "campaigns", control: []string{"-spool.inject.most=15", "-spool.inject.control"},
		counts: counts{"", "", `(\d+) faults met`}},
	{name: "disk full", pkg: ".", test: "^TestFullDisk", most: 50, of: "campaigns", control: []string{"-spool.full.control"}},
	{name: "damage", pkg: ".", test: "^TestDamage$", ci: []string{"-spool.damage.count=500"}, full: []string{"-spool.damage.count=1000"},
		most: 10, of: "campaigns", control: []string{"-spool.damage.control"}, seed: "spool.damage.seed"},
	{name: "index loss", pkg: ".", test: "^TestIndexDamage$|^TestReopen$", most: 10, of: "campaigns",
		control: []string{"-spool.inner.control"}, seed: "spool.inner.seed"},
	{name: "clocks", pkg: ".", test: "^TestClocks$", most: 1, of: "campaigns", control: []string{"-spool.clocks.control"}},
	{name: "descriptors", pkg: "./store/badgerkv", test: "^TestDescriptors$", most: 1, of: "campaigns",
		control: []string{"-badgerkv.descriptors.control"}},
	{name: "soak", pkg: ".", test: "^TestSoak$", ci: []string{"-spool.soak=2m"}, full: []string{"-spool.soak=2h"}, most: 1, of: "campaigns", beside: true,
		control: []string{"-spool.soak=5s", "-spool.soak.leak"}, counts: counts{operations: `(\d+) calls in`}},
	{name: "fuzz", fuzz: true},
}
