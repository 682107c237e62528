// All steps of one run, as far as the browser knows them.

export class Store {
  constructor(hello) {
    const { head, arrays } = hello;
    Object.assign(this, { hello: head, fan: arrays.fan, real: arrays.real, count: 0, now: null, latest: {} });
    this.bandCount = head.edges.length - 1;
    this.columnCount = head.columns.length;
    this.table = new Float32Array(head.steps * this.columnCount);
    this.reasons = new Uint8Array(head.steps * head.n);
    this.scores = new Float32Array(head.steps * head.n);
    this.bands = new Float32Array(head.steps * this.bandCount);
    this.errors = new Float32Array(0);
    this.policy = head.policy;
    this.version = 0;
    this.sums = { tokens: 0, flops: 0, full: 0 };
    this.arrivals = [];
    this.at = Object.fromEntries(head.columns.map((name, i) => [name, i]));
  }

  cell(name, step) {
    return this.table[step * this.columnCount + this.at[name]];
  }

  // False when steps are missing between what is known and what came: the sender must start again.
  take({ head, arrays }) {
    if (head.from > this.count) return false;
    this.now = head;
    // All steps at once: the twin may become known after the run.
    if (arrays.errors) this.errors = arrays.errors;
    if (head.policy) {
      this.policy = head.policy;
      this.version = head.version;
    }
    const end = Math.min(head.from + head.count, this.hello.steps);
    if (end <= this.count) return true;
    const skip = this.count - head.from;
    const put = (target, source, width) =>
      target.set(source.subarray(skip * width, (end - head.from) * width), this.count * width);
    put(this.table, arrays.table, this.columnCount);
    put(this.reasons, arrays.reasons, this.hello.n);
    put(this.scores, arrays.e, this.hello.n);
    put(this.bands, arrays.bands, this.bandCount);
    for (let i = this.count; i < end; i++) {
      this.sums.tokens += this.cell("tokens", i);
      this.sums.flops += this.cell("flops", i);
      this.sums.full += this.cell("flops_full", i);
    }
    this.count = end;
    this.latest = arrays;
    const t = performance.now();
    this.arrivals.push([t, end]);
    while (this.arrivals.length > 2 && t - this.arrivals[0][0] > 2000) this.arrivals.shift();
    return true;
  }

  speed() {
    const a = this.arrivals[0];
    const b = this.arrivals[this.arrivals.length - 1];
    if (!a || b[0] - a[0] < 200 || performance.now() - b[0] > 1500) return null;
    return ((b[1] - a[1]) / (b[0] - a[0])) * 1000;
  }

  // Steps since token k was last computed, seen at `step`; it is what the map itself shows.
  age(step, k) {
    let i = step;
    while (i >= 0 && this.reasons[i * this.hello.n + k] === 0) i--;
    return step - i;
  }
}
