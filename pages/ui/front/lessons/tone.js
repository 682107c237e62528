// A steady tone of given overtones.

const PITCH_HZ = 110;
const VOLUME = 0.12;

export class Tone {
  // `wave` holds the cosine and sine amplitudes of the overtones; null is silence.
  play(wave) {
    if (!wave) {
      this.silence();
      return;
    }
    if (!this.audio) this.start();
    const [cosine, sine] = wave.map((values) => Float32Array.from(values));
    this.voice.setPeriodicWave(this.audio.createPeriodicWave(cosine, sine));
  }

  start() {
    this.audio = new AudioContext();
    const gain = this.audio.createGain();
    gain.gain.value = VOLUME;
    gain.connect(this.audio.destination);
    this.voice = this.audio.createOscillator();
    this.voice.frequency.value = PITCH_HZ;
    this.voice.connect(gain);
    this.voice.start();
  }

  silence() {
    this.audio?.close();
    this.audio = null;
  }
}
