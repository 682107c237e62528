// Questions to the server: one under way, the newest one waiting, all older ones forgotten.

import { readPacket } from "../shared/packet.js";
import { Reconnecting } from "../shared/socket.js";

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
    Object.assign(this, { onPacket, onPoll, onOpen, trigger, socket: null });
    this.newest = new Newest((question) => this.transmit(question));
    this.listener = ({ detail }) => this.take(readPacket(detail));
    if (!path) {
      this.poll();
      return;
    }
    this.socket = new Reconnecting(() => path, {
      onOpen: () => {
        this.newest.under = null;
        onOpen();
      },
      onMessage: ({ error }) => {
        onFault(error);
        this.newest.answered(Infinity);
      },
      onBytes: (data) => this.take(readPacket(data)),
      onLost: () => this.poll(),
    });
  }

  poll() {
    this.socket = null;
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
    if (!this.socket) this.trigger("ask", { ...question, n: Math.random() });
    else if (!this.socket.send(question)) this.newest.under = null;
  }

  calibrate() {
    this.socket?.send({ type: "calibrate" });
  }

  close() {
    this.socket?.close();
    window.removeEventListener("e2crf-news", this.listener);
  }
}
