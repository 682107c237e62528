// Anatomy as a component of the lab's page.

import { mounted } from "../shared/mount.js";
import { Anatomy } from "./anatomy.js";

export default mounted(Anatomy);
