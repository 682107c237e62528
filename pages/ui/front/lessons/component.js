// A lesson as a component of the lab's page.

import { mounted } from "../shared/mount.js";
import { Lesson } from "./lessons.js";

export default mounted(Lesson);
