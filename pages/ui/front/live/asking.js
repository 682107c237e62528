// Questions to the server: one under way, the newest one waiting, all older ones forgotten.

import { readPacket } from "../shared/packet.js";

const TRIES = 3;
// An answer that takes longer is not waited for: the server drops it for the next question. A slow machine still
// finishes one answer after the other while the hand moves.
const LATE_MS = 5000;

export class Newest {
  constructor(send, now = () => performance.now()) {
    Object.assign(this, { send, now, serial: 0, waiting: null, under: null });
  }

  // Asks, or waits for the answer under way; returns the serial number of the question.
  ask(question) {
    this.serial += 1;
    this.waiting = { ...question, serial: this.serial };
    this.flush();
    return this.serial;
  }

  flush() {
    if (!this.waiting) return;
    // A settled answer is long, and of no use once the hand moves again.
    if (this.under && !this.under.settle && this.now() - this.under.at < LATE_MS) return;
    const question = this.waiting;
    this.waiting = null;
    this.under = { serial: question.serial, settle: question.settle, at: this.now() };
    this.send(question);
  }

  // An answer, or a refusal, to the question `serial` came.
  answered(serial) {
    if (this.under && serial >= this.under.serial) this.under = null;
    this.flush();
  }
}

// The way to the server: a WebSocket; where none is served, settled questions go through the page.
export class AskLink {
  constructor(path, { onPacket, onFault, onPoll, onOpen, trigger }) {
    Object.assign(this, { path, onPacket, onFault, onPoll, onOpen, trigger, tries: 0, closed: false });
    this.newest = new Newest((question) => this.transmit(question));
    this.listener = ({ detail }) => this.take(readPacket(detail));
    if (path) this.connect();
    else this.poll();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${this.path}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.tries = 0;
      this.newest.under = null;
      this.onOpen();
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") {
        this.onFault(JSON.parse(data).error);
        this.newest.answered(Infinity);
      } else this.take(readPacket(data));
    };
    socket.onclose = () => {
      if (this.closed) return;
      this.tries += 1;
      if (this.tries >= TRIES) this.poll();
      else
        setTimeout(() => {
          if (!this.closed) this.connect();
        }, 250 * this.tries);
    };
    this.socket = socket;
  }

  poll() {
    this.socket = null;
    this.path = null;
    window.addEventListener("e2crf-news", this.listener);
    this.onPoll();
    this.onOpen();
  }

  take(packet) {
    const { kind, serial } = packet.head;
    if (kind === "answer" || kind === "uncalibrated" || kind === "fault") this.newest.answered(serial);
    this.onPacket(packet);
  }

  ask(question) {
    // Through the page, an answer costs a run of the script: only settled questions go that way.
    if (!this.socket && !question.settle) return this.newest.serial;
    return this.newest.ask(question);
  }

  transmit(question) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(question));
    else if (this.socket) this.newest.under = null;
    else this.trigger("ask", { ...question, n: Math.random() });
  }

  calibrate() {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send('{"type":"calibrate"}');
  }

  close() {
    this.closed = true;
    this.socket?.close();
    window.removeEventListener("e2crf-news", this.listener);
  }
}
